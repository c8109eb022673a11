"""A node that is killed while it probes an engine leaves no rpc-server behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.models_registry.engine.conftest import HELP, fake_engine, write_script

PROBING = """
import sys, threading, time
from pathlib import Path
from models_registry.engine.probe import probe
threading.Thread(target=probe, args=(Path(sys.argv[1]), "test", None), daemon=True).start()
time.sleep(60)
"""


def silent_engine(folder: Path, marks: Path) -> Path:
    """Return a llama-server whose rpc-server starts and never says its protocol."""
    server = fake_engine(folder)
    write_script(
        folder / "ggml-rpc-server",
        f'case "$*" in *-h*) cat "{HELP / "ggml-rpc-server-0.7.0.txt"}"; exit 0 ;; esac\n'
        f'echo $$ > "{marks}"\nexec sleep 60\n',
    )
    return server


def test_killed_in_the_middle_of_the_probe_its_child_dies_too(tmp_path: Path) -> None:
    marks = tmp_path / "pid"
    server = silent_engine(tmp_path / "engine", marks)
    prober = subprocess.Popen([sys.executable, "-c", PROBING, str(server)])
    try:
        deadline = time.monotonic() + 20
        while not (marks.exists() and marks.read_text().strip()):
            assert time.monotonic() < deadline, "the rpc-server was never started"
            time.sleep(0.02)
        child = int(marks.read_text())
    finally:
        os.kill(prober.pid, signal.SIGKILL)
        prober.wait()
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the rpc-server outlived the node"
        time.sleep(0.02)
