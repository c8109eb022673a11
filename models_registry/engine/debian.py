"""The engine from Debian's own signed packages, without root and without touching the system.

apt resolves and downloads llama.cpp's packages of suite `sid` into a private folder and checks
Debian's signature; the files that the programs need are taken out of them, together with their own
C runtime and loader, and pointed at each other by patchelf. The suite rolls, so nothing is pinned.
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from models_registry.engine import apt_mirror, elf, gpu
from models_registry.engine.faults import InstallFailed
from models_registry.engine.steps import Progress, need_space, run

SUITE = "sid"
PACKAGES = ("llama.cpp-tools", "llama.cpp-tools-extra", "libggml0-backend-rpc")
UNWANTED = ("wget", "debconf")
"""Dependencies for other uses than ours: declared as installed, so that apt leaves them out."""
KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
)
APT_TIMEOUT_S = 600.0
UNPACKED_FACTOR = 6
"""Disk for the packages, what is in them and the engine made of it, in multiples of the download."""
INDEX_BYTES = 60_000_000
"""Room for the suite's package list, as downloaded and as apt keeps it."""
NEXT_STEP = (
    "Check the network and `apt-get update`, then try again; or build it: "
    "`mesh-llm engine install --method source`."
)
_HOOKS = ("APT::Update", "DPkg")


def unavailable() -> str | None:
    """Return why this machine cannot take Debian's packages, or None when it can."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        return "Debian's packages are tried on Linux on amd64 only"
    if _os_id() != "debian":
        return "this system is not Debian, and its mirror has no Debian suite"
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} is not installed"
    if _keyring() is None:
        return "Debian's archive key is missing: install debian-archive-keyring"
    return None


def build(work: Path, into: Path, final: Path, progress: Progress) -> list[str]:
    """Fill `into` with an engine that will live at `final`, using `work` for what is temporary.

    Returns the words to put before a program of `into` to run it there already: its own loader.

    Raises:
        InstallFailed: the mirror, the signature, the packages or the disk; handled by `install`.
    """
    progress("asking apt for Debian's mirror", None)
    mirrors = find_mirrors()
    if not mirrors:
        raise InstallFailed(
            "apt's sources name no Debian mirror (with component main). Add one to "
            "/etc/apt/sources.list, or run `mesh-llm engine install --method source`."
        )
    extra = [f"libggml0-backend-{backend}" for backend in gpu.backends(gpu.seen())]
    debs = _download_with(work, mirrors[0], extra, progress)
    progress("unpacking", None)
    root = unpack(work, debs)
    progress("fitting the parts together", None)
    loader = elf.assemble(root, into, final)
    return [str(into / loader)]


def _download_with(work: Path, mirror: str, extra: list[str], progress: Progress) -> list[Path]:
    """Download with the GPU's packages, or without them where that fails: CPU only beats none."""
    if extra:
        try:
            return download(work, mirror, [*PACKAGES, *extra], progress)
        except InstallFailed as fault:
            progress(f"leaving out the GPU's {' '.join(extra)} ({fault})", None)
    return download(work, mirror, list(PACKAGES), progress)


def find_mirrors() -> tuple[str, ...]:
    """Return the URIs of the Debian archive that this machine's apt uses, best first."""
    try:
        asked = subprocess.run(
            [
                "apt-get",
                "indextargets",
                "--format",
                apt_mirror.TARGETS_FORMAT,
                "Created-By: Packages",
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        known: tuple[str, ...] = ()
    else:
        known = apt_mirror.from_targets(asked.stdout)
    # On a fresh system no list was ever fetched and apt knows no origin: then its sources tell.
    return known or mirrors_in(Path("/etc/apt"))


def mirrors_in(etc: Path) -> tuple[str, ...]:
    """Return the archive's URIs in the sources under `etc`, of both formats."""
    found: list[str] = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue
        if path.suffix == ".sources":
            found += apt_mirror.from_deb822(text)
        elif path.suffix == ".list":
            found += apt_mirror.from_one_line(text)
    return tuple(dict.fromkeys(found))


def download(work: Path, mirror: str, packages: list[str], progress: Progress) -> list[Path]:
    """Return the verified package files of `packages` and all they need, downloaded under `work`."""
    apt = ["apt-get", "-q", "-y", "-c", str(_configure(work, mirror))]
    need_space(work, INDEX_BYTES)
    progress(f"reading the package list of {mirror}", None)
    run([*apt, "update"], doing="Reading Debian's package list", next_step=NEXT_STEP,
        timeout_s=APT_TIMEOUT_S, cwd=work)  # fmt: skip
    listed = run([*apt, "-qq", "--print-uris", "install", *packages],
        doing="Choosing Debian's packages", next_step=NEXT_STEP,
        timeout_s=APT_TIMEOUT_S, cwd=work)  # fmt: skip
    total = total_bytes(listed)
    need_space(work, total * UNPACKED_FACTOR)
    archives = work / "cache" / "archives"

    def tick() -> None:
        done = sum(p.stat().st_size for p in archives.rglob("*.deb*") if p.exists())
        progress(f"downloading {total / 1e6:.0f} MB", min(1.0, done / total) if total else None)

    tick()
    run([*apt, "--download-only", "install", *packages], doing="Downloading Debian's packages",
        next_step=NEXT_STEP, timeout_s=APT_TIMEOUT_S, cwd=work, tick=tick)  # fmt: skip
    debs = sorted(archives.glob("*.deb"))
    if not debs:
        raise InstallFailed(f"apt downloaded nothing from {mirror}. {NEXT_STEP}")
    return debs


def total_bytes(print_uris: str) -> int:
    """Return the sum of the sizes in an `apt-get --print-uris` answer."""
    rows = (line.split() for line in print_uris.splitlines() if line.startswith("'"))
    return sum(int(row[2]) for row in rows if len(row) >= 3 and row[2].isdigit())


def unpack(work: Path, debs: list[Path]) -> Path:
    """Return the folder that holds the contents of all `debs`."""
    root = work / "root"
    root.mkdir()
    for deb in debs:
        run(["dpkg-deb", "-x", deb, root], doing=f"Unpacking {deb.name}", timeout_s=120, cwd=work,
            next_step="The file is damaged or the disk is full: check the disk and try again.")  # fmt: skip
    return root


def _configure(work: Path, mirror: str) -> Path:
    """Write an apt configuration in which every folder is private, and return its path.

    The machine's own settings (proxies, certificates, credentials) stay in force; its hooks, pins
    and default release do not.
    """
    for folder in ("lists/partial", "cache/archives/partial", "state"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    stub = (
        "Package: {}\nStatus: install ok installed\nVersion: 9999\nArchitecture: amd64\n"
        "Multi-Arch: foreign\nMaintainer: none\nDescription: not needed by the engine\n\n"
    )
    (work / "status").write_text("".join(stub.format(name) for name in UNWANTED))
    (work / "sources.list").write_text(
        f"deb [arch=amd64 signed-by={_keyring()}] {mirror} {SUITE} main\n"
    )
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": work / "state",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Log": work,
        "APT::Sandbox::User": "",
        "APT::Architecture": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Update::Error-Mode": "any",
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Debug::NoLocking": "true",
    }
    lines = ["#clear APT::Default-Release;", "#clear APT::Architectures;"]
    for scope in _HOOKS:
        for hook in ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success", "Pre-Install-Pkgs"):
            lines.append(f"#clear {scope}::{hook};")
    lines += [f'{name} "{value}";' for name, value in settings.items()]
    path = work / "apt.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


def _keyring() -> str | None:
    return next((path for path in KEYRINGS if os.access(path, os.R_OK)), None)


def _os_id() -> str:
    try:
        return platform.freedesktop_os_release().get("ID", "")
    except OSError:
        return ""
