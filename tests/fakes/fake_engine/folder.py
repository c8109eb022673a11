"""The folder that a node takes for an engine: two small launchers, nothing else."""

import shlex
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]

_LAUNCHER = """#!/bin/sh
# Stands in for llama.cpp's {program}; see tests/fakes/fake_engine.
export PYTHONPATH={repo}
exec {python} -P -m tests.fakes.fake_engine {program} "$@"
"""


def write_fake_engine(folder: Path, python: str | Path = sys.executable) -> Path:
    """Return `folder` holding an executable ``llama-server`` and ``ggml-rpc-server``, made if needed.

    `python` needs httptools, msgspec and (for speed alone) uvloop. The launchers exec, so the pid that
    a supervisor starts is the pid of the fake itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for program in ("llama-server", "ggml-rpc-server"):
        path = folder / program
        path.write_text(
            _LAUNCHER.format(
                program=program, repo=shlex.quote(str(REPO)), python=shlex.quote(str(python))
            ),
            encoding="utf-8",
        )
        path.chmod(0o755)
    return folder
