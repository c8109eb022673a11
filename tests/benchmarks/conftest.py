"""A running fake engine for the tests of the harness."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.process import free_port, start, stop, wait_until_ok
from tests.fakes.fake_engine import write_fake_engine

StartEngine = Callable[..., int]


@pytest.fixture
def start_engine(tmp_path: Path) -> Iterator[StartEngine]:
    """Start fake engines with the given environment; each call returns a port that answers."""
    folder = write_fake_engine(tmp_path / "bin", sys.executable)
    started: list[subprocess.Popen[bytes]] = []

    def begin(path: str = "/health", **env: str) -> int:
        port = free_port()
        argv = [str(folder / "llama-server"), "-m", "x/tiny.gguf", "--port", str(port), "-np", "2"]
        process = start(argv, tmp_path / "engine.log", env)
        started.append(process)
        wait_until_ok(process, port, path, 20)
        return port

    yield begin
    for process in started:
        stop(process)


@pytest.fixture
def engine_port(start_engine: StartEngine) -> int:
    """Return the port of a fake engine as it comes."""
    return start_engine()
