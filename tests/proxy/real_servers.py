"""Real llama-servers on the demo model, for tests of this room: started on a free port, always ended."""

import asyncio
import http.client
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.proxy.conftest import Client

MODEL = Path(__file__).resolve().parents[2] / "models_registry" / "demo" / "mesh-demo.gguf"
READY_POLLS = 600
POLL_S = 0.05


@contextmanager
def real_server(engine_dir: Path, *arguments: str) -> Iterator[int]:
    """Yield the port of a llama-server that has loaded the demo model."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    argv = [str(engine_dir / "llama-server"), "-m", str(MODEL), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "-t", "1", "--slots", "--jinja", *arguments]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait(port: int) -> None:
    """Wait until the server answers its health check; from any thread, with or without a loop."""
    for _ in range(READY_POLLS):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(POLL_S)
    pytest.fail("llama-server was not ready in 30 s")


async def ask(port: int, raw: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send raw bytes to an engine itself, return its answer."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        await client.send(raw)
        return await client.answer()
    finally:
        client.close()
