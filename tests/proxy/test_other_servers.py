"""The same application under plain uvicorn and plain Daphne: /v1 answers there too."""

import asyncio
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.proxy.conftest import Client, eventually, post
from tests.proxy.fake_upstream import DONE, Call, FakeUpstream, event, stream_ok

CHAT = "/v1/chat/completions"
BODY = b'{"model":"demo","stream":true}'
ROOT = Path(__file__).resolve().parents[2]

APP = """
import os, time
from nodes.mesh.routing import ModelState, RoutingTable, Upstream
from proxy.asgi import ApiApp, ApiConfig
up = Upstream("ab" * 32, "demo", ModelState.READY, "127.0.0.1", {port}, 4, 4096, frozenset())
table = RoutingTable("ab" * 32, (up,), 1)
app = ApiApp(ApiConfig(), lambda: table, lambda record: None, "ab" * 32)
"""


@pytest.fixture(params=["uvicorn", "daphne"])
async def port(
    request: pytest.FixtureRequest, tmp_path: Path, engine: FakeUpstream
) -> AsyncIterator[int]:
    """The port of a plain ASGI server that serves the application before `engine`."""
    (tmp_path / "served.py").write_text(textwrap.dedent(APP.format(port=engine.port)))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        free: int = sock.getsockname()[1]
    flags = {
        "uvicorn": ["--host", "127.0.0.1", "--port", str(free), "--no-access-log"],
        "daphne": ["-b", "127.0.0.1", "-p", str(free)],
    }[request.param]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", request.param, *flags, "served:app"),
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await _listening(free)
        yield free
    finally:
        process.kill()
        await process.wait()


async def _listening(port: int) -> None:
    for _ in range(400):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    pytest.fail("the server did not start in 20 s")


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def test_models_chat_streams_and_errors_are_served(port: int, engine: FakeUpstream) -> None:
    engine.script = stream_ok
    client = await connect(port)
    await client.send(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, _, body = await client.answer()
    assert status == 200
    assert b'"id":"demo"' in body
    await client.send(post(CHAT, BODY))
    status, headers, body = await client.answer()
    assert status == 200
    assert body == b"".join(event(n) for n in range(3)) + DONE
    assert b"x-request-id" in headers
    client.close()
    client = await connect(port)
    await client.send(post("/v1/none", BODY, b"Connection: close\r\n"))
    assert (await client.answer())[0] == 404
    client.close()


async def test_client_that_leaves_frees_the_engine(port: int, engine: FakeUpstream) -> None:
    async def endless(call: Call) -> None:
        await call.begin_stream()
        while True:
            await call.chunk(event(1))
            await asyncio.sleep(0.02)

    engine.script = endless
    client = await connect(port)
    await client.send(post(CHAT, BODY))
    await client.until(event(1))
    client.reset()
    await eventually(lambda: engine.open == 0)


async def test_stream_that_dies_ends_with_an_error_event(port: int, engine: FakeUpstream) -> None:
    async def die(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0) + b"data: {half")
        await asyncio.sleep(0.05)
        call.cut()

    engine.script = die
    client = await connect(port)
    await client.send(post(CHAT, BODY))
    _, _, body = await client.answer()
    assert body.startswith(event(0) + b"event: error\n")
    assert b"[DONE]" not in body
    client.close()
