"""One real llama-server for a test: started on a free port, asked over HTTP, always ended."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

START_LIMIT_S = 60.0


def server_binary() -> Path:
    """Return the engine's server; fails with what to do when there is none (never skips)."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("MESH_LLM_TEST_ENGINE") or root / ".cache" / "engine")
    binary = folder / "llama-server"
    if not binary.exists():
        pytest.fail(f"no engine at {binary}: run `make setup`, or set MESH_LLM_TEST_ENGINE")
    return binary


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(model: Path, log: Path, *arguments: str) -> Iterator[str]:
    """Yield the base URL of a llama-server that has loaded `model`; its output goes to `log`."""
    port = free_port()
    argv = [str(server_binary()), "-m", str(model), "--port", str(port), "-t", "1", *arguments]
    url = f"http://127.0.0.1:{port}"
    with (
        log.open("wb") as out,
        subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT) as process,
    ):
        try:
            _wait(url, process, log)
            yield url
        finally:
            process.kill()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(url + "/health", timeout=5):
                return
        except OSError:
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, log.read_text(errors="replace")[-2000:]
            time.sleep(0.05)


def post(url: str, body: dict[str, Any]) -> Any:
    """Return the JSON answer to a JSON request."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
