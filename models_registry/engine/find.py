"""Which engine is used: `--bin-dir`, then the home's own, then PATH. Decides no more than that."""

import os
import shutil
from pathlib import Path

from models_registry.engine.faults import EngineMissing
from models_registry.engine.probe import Engine, probe

SERVER_NAME = "llama-server.exe" if os.name == "nt" else "llama-server"
HOME_FOLDER = "engine"
"""The folder of the home that `mesh-llm engine install` fills."""
DEFAULT_HOME = Path("~/.mesh-llm")
CACHE_FOLDER = "run"
"""The folder of the home that keeps what the probe learnt."""

_HOW_TO_GET_ONE = """\
No llama.cpp engine was found: no llama-server in {places}.
Get one in one of these ways, then start again:
  mesh-llm engine install      Debian: 10 seconds, no root; elsewhere it is built, with a compiler
  brew install llama.cpp       macOS, Linux (Homebrew)
  winget install llama.cpp     Windows
  nix profile install nixpkgs#llama-cpp
or name the folder of an existing one with --bin-dir."""


def find(bin_dir: Path | None, home: Path, path: str) -> Engine:
    """Return the engine to use; `path` is the PATH to search, `bin_dir` None: the operator named none.

    An engine in the home that is broken is an error, not a reason to take another one silently.

    Raises:
        EngineMissing: there is none; the text says what to run.
        EngineBroken: the first one found does not run.
    """
    cache_dir = home / CACHE_FOLDER
    if bin_dir is not None:
        server = bin_dir.expanduser() / SERVER_NAME
        if not server.is_file():
            raise EngineMissing(
                f"--bin-dir {bin_dir} holds no {SERVER_NAME}. Name the folder that has it, or leave "
                "--bin-dir out and run `mesh-llm engine install`."
            )
        return probe(server, "--bin-dir", cache_dir)
    own = home / HOME_FOLDER / SERVER_NAME
    if own.is_file():
        return probe(own, "home", cache_dir)
    if on_path := shutil.which(SERVER_NAME, path=path):
        return probe(Path(on_path), "PATH", cache_dir)
    raise EngineMissing(
        _HOW_TO_GET_ONE.format(places=f"{own.parent} and none on PATH") + _of_the_default_home(own)
    )


def _of_the_default_home(own: Path) -> str:
    """Return where `make setup` put one when this node was given another home; empty: it did not."""
    other = DEFAULT_HOME.expanduser() / HOME_FOLDER / SERVER_NAME
    if other == own or not other.is_file():
        return ""
    return f"\nThere is one in another home: --bin-dir {other.parent} uses it."
