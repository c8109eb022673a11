"""Real rpc-servers and llama-servers for tests of a split, always ended, by their own pid."""

import asyncio
import contextlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.models_registry.engine_process import free_port, server_binary

READY_S = 90.0


def rpc_binary() -> Path:
    binary = server_binary().with_name("ggml-rpc-server")
    assert binary.exists(), f"no {binary}: run `make setup`"
    return binary


@contextlib.contextmanager
def rpc_server(log: Path, *arguments: str) -> Iterator[int]:
    """Yield the port of a running rpc-server."""
    port = free_port()
    argv = [str(rpc_binary()), "-H", "127.0.0.1", "-p", str(port), "-t", "1", *arguments]
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as process:
        try:
            _until_open(port, process)
            yield port
        finally:
            process.kill()


def _until_open(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the rpc-server ended"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.01)
    raise AssertionError("the rpc-server did not open its port")


@dataclass
class Served:
    """A llama-server."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    began_s: float

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self) -> float:
        """Return how long it took to be ready, in seconds."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            text = self.log.read_text(errors="replace")[-1500:]
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {text}"
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return time.monotonic() - self.began_s
            time.sleep(0.01)
        raise AssertionError(self.log.read_text(errors="replace")[-1500:])

    async def ready(self) -> float:
        return await asyncio.to_thread(self.wait)

    def complete(self, prompt: str, tokens: int = 48) -> Any:
        """Return the answer to a prompt at temperature 0."""
        body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "seed": 1}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/completion",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    async def answer(self, prompt: str, tokens: int = 48) -> str:
        got = await asyncio.to_thread(self.complete, prompt, tokens)
        return str(got["content"])


@contextlib.contextmanager
def llama_server(model: Path, log: Path, *arguments: str) -> Iterator[Served]:
    """Yield a started llama-server, not ready yet."""
    port = free_port()
    argv = [str(server_binary()), "-m", str(model), "--port", str(port)]
    argv += ["-t", "1", "-c", "1024", "--no-webui", *arguments]
    began_s = time.monotonic()
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out) as process:
        try:
            yield Served(process, port, log, began_s)
        finally:
            process.kill()


def split_arguments(ports: list[int], shares: str) -> list[str]:
    rpc = ",".join(f"127.0.0.1:{port}" for port in ports)
    return ["--rpc", rpc, "-ngl", "99", "--tensor-split", shares]
