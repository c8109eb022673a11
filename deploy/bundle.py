"""`make bundle`: one tar.gz that sets a like machine up with no network.

In it, under one folder: ``install.sh`` and what it reads (``BUNDLE``, ``SHA256SUMS``, ``verify.py``),
``wheels/`` of the locked requirements, ``pip/`` to install them with (Debian's Python has none),
``engine/`` as the node's home has it, and ``app/``: the project's code with the demo model and the
collected assets. A failed run leaves nothing; what a killed one left is removed by the next.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from deploy import archive, engine_files, target, wheels
from deploy.engine_files import EngineFiles
from deploy.faults import BundleFailed
from meshsite import settings
from meshsite.version import VERSION
from models_registry.demo import demo_path

REPO = Path(__file__).resolve().parent.parent
PAYLOAD = Path(__file__).resolve().parent / "payload"
ROOMS = ("meshsite", "nodes", "models_registry", "proxy", "templates", "static", "staticfiles")
LOOSE = ("manage.py", "LICENSE", "README.md", "CHANGELOG.md")
WORK_PREFIX = ".bundle-"
SPACE_BYTES = 600_000_000
"""Disk that making a bundle takes, the archive included: about 250 MB, with room for a GPU's engine."""
PYTHON_ENVIRONMENT_BYTES = 25_000_000
"""An empty environment, the compiled files of the project's own code, the file system's blocks."""
COMPILED_FACTOR = 1.5
"""What unpacked wheels take with their compiled files, in multiples of what is in them."""


def make(out: Path, home: Path, requirements: Path, repo: Path = REPO) -> Path:
    """Return the archive made in the folder `out`, with its sum beside it.

    Raises:
        BundleFailed: nothing was left in `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob(f"{WORK_PREFIX}*"):
        shutil.rmtree(stale, ignore_errors=True)
    if (free := shutil.disk_usage(out).free) < SPACE_BYTES:
        raise BundleFailed(
            f"A bundle needs {SPACE_BYTES / 1e6:.0f} MB free while it is made, and the disk of {out} "
            f"has {free / 1e6:.0f} MB. Free some, or make it elsewhere with OUT=FOLDER."
        )
    engine = engine_files.of_home(home)
    with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=out) as temp:
        work = Path(temp)
        brought = wheels.bring(requirements, work / "wheels")
        root = lay_out(work, repo, brought, engine)
        made = out / f"{root.name}.tar.gz"
        archive.pack(root, made)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    made.with_name(f"{made.name}.sha256").write_text(f"{digest}  {made.name}\n", "ascii")
    return made


def lay_out(work: Path, repo: Path, brought: list[Path], engine: EngineFiles) -> Path:
    """Return the bundle's folder, made under `work` from the checkout `repo`."""
    about = describe(repo, brought, engine)
    root = work / about.stem()
    root.mkdir()
    app = root / "app"
    app.mkdir()
    for room in ROOMS:
        if not (repo / room).is_dir():
            raise BundleFailed(f"{room}/ is missing in {repo}: run `make setup` first.")
        archive.copy_tree(repo / room, app / room)
    for name in LOOSE:
        shutil.copy(repo / name, app / name)
    if not (app / demo_path().relative_to(REPO)).is_file():
        raise BundleFailed(f"The demo model is missing: restore {demo_path()} from the repository.")
    shutil.copytree(engine.folder, root / "engine")
    (root / "wheels").mkdir()
    for wheel in brought:
        shutil.copy(wheel, root / "wheels" / wheel.name)
    (root / "wheels" / wheels.LIST_NAME).write_text(wheels.pin(brought), "utf-8")
    archive.copy_tree(_pip(), root / "pip" / "pip")
    shutil.copy(repo / "LICENSE", root / "LICENSE")
    for path in PAYLOAD.iterdir():
        if path.is_file():
            shutil.copy(path, root / path.name)
    (root / "BUNDLE").write_text(about.text(), "ascii")
    archive.write_sums(root)
    return root


def describe(repo: Path, brought: list[Path], engine: EngineFiles) -> target.Target:
    """Return which machine the bundle is for."""
    runtime, here = target.runtime_here()
    least = target.runtime_min((wheel.name for wheel in brought), here)
    if runtime == "glibc" and not engine.loader:
        least = max(least, here)  # the engine was built against this machine's C library
    content = sum(path.stat().st_size for path in archive.files_of(engine.folder))
    for room in ROOMS:
        content += sum(path.stat().st_size for path in (repo / room).rglob("*") if path.is_file())
    for wheel in brought:
        with zipfile.ZipFile(wheel) as opened:
            content += int(COMPILED_FACTOR * sum(entry.file_size for entry in opened.infolist()))
    uname = os.uname()
    return target.Target(
        version=VERSION,
        system=uname.sysname,
        machine=uname.machine,
        runtime=runtime,
        runtime_min=target.dotted(least),
        python=target.python_here(),
        engine=engine.version,
        engine_loader=engine.loader,
        engine_programs=" ".join(engine.programs),
        installed_mb=(content + PYTHON_ENVIRONMENT_BYTES) // 1_000_000 + 1,
    )


def _pip() -> Path:
    """Return the package folder of this environment's pip."""
    found = importlib.util.find_spec("pip")
    if found is None or found.origin is None:
        raise BundleFailed("This Python environment has no pip: run `make setup`.")
    return Path(found.origin).parent


def main() -> int:
    """Make the bundle; return the exit code."""
    asked = argparse.ArgumentParser(prog="make bundle", description=__doc__)
    asked.add_argument("--out", type=Path, default=REPO / "dist", metavar="FOLDER")
    out: Path = asked.parse_args().out
    try:
        made = make(out.absolute(), settings.MESH_LLM_HOME, REPO / "requirements.txt")
    except (BundleFailed, OSError) as fault:
        sys.stderr.write(f"bundle: {fault}\n")
        return 1
    stem = made.name.removesuffix(".tar.gz")
    sys.stdout.write(
        f"bundle: {made} ({made.stat().st_size / 1e6:.0f} MB)\n"
        f"On a like machine: tar xzf {made.name} && ./{stem}/install.sh\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
