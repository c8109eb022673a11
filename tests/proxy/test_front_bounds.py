"""The front's bounds on sizes, connections and slow readers, and what clients beyond them are told."""

import asyncio
import json
import socket
from typing import Any

import pytest

from tests.proxy.conftest import StartApi, eventually, post
from tests.proxy.fake_upstream import Call, FakeUpstream

CHAT = "/v1/chat/completions"
BODY = b'{"model":"demo"}'
GET = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n"


def error_of(answer: bytes) -> Any:
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set(body["error"]) >= {"message", "type", "code", "param"}
    return body["error"]


async def test_too_large_body_gets_413_that_the_client_can_read(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine, body_limit_bytes=1000)
    client = await api.connect()
    head = post(CHAT, b"", b"").replace(b"Content-Length: 0", b"Content-Length: 9000000")
    await client.send(head + b"x" * 100_000)
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert error_of(answer)["code"] == "request_too_large"
    assert engine.calls == []


async def test_too_large_chunked_body_gets_413(start_api: StartApi, engine: FakeUpstream) -> None:
    api = await start_api(engine, body_limit_bytes=1000)
    client = await api.connect()
    await client.send(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"1f4\r\n" + b"x" * 500 + b"\r\n") * 3
    )
    assert (await client.rest()).startswith(b"HTTP/1.1 413 ")
    await eventually(lambda: api.app._bodies.held_bytes == 0)


async def test_bodies_beyond_the_budget_of_all_get_503(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine, bodies_total_limit_bytes=1500)
    holder = await api.connect()
    head = post(CHAT, b"").replace(b"Content-Length: 0", b"Content-Length: 1200")
    await holder.send(head + b"x" * 1100)
    await eventually(lambda: api.app._bodies.held_bytes)
    status, headers, _ = await api.post(CHAT, b"{" + b" " * 900 + b"}")
    assert status == 503
    assert b"retry-after" in headers
    holder.close()
    await eventually(lambda: api.app._bodies.held_bytes == 0)
    assert (await api.post(CHAT, b"{}"))[0] == 200


async def test_connection_over_the_limit_gets_503(start_api: StartApi) -> None:
    api = await start_api(connections_limit=1)
    first = await api.connect()
    await first.send(GET + b"\r\n")
    assert (await first.answer())[0] == 200
    second = await api.connect()
    answer = await second.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: " in answer
    first.close()


async def test_client_that_never_reads_stops_the_engine_and_is_cut_off(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    written = 0

    async def flood(call: Call) -> None:
        nonlocal written
        await call.begin_stream()
        while True:
            await call.chunk(b"data: " + b"x" * 50_000 + b"\n\n")
            written += 50_000

    engine.script = flood
    api = await start_api(engine, write_stall_deadline_s=1.0)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", api.port))
    await asyncio.get_running_loop().sock_sendall(sock, post(CHAT, BODY))
    await eventually(lambda: written > 0)
    await asyncio.sleep(0.4)
    before = written
    await asyncio.sleep(0.2)
    assert written == before  # backpressure has reached the engine
    assert written < 30_000_000  # what the kernel's buffers hold, not what we do
    await eventually(lambda: engine.open == 0)
    await eventually(lambda: api.records)
    assert api.records[0].outcome == "client_gone"
    sock.close()


async def test_forgotten_request_ends_at_the_total_deadline(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def hang(call: Call) -> None:
        await call.begin_stream()
        await call.client_gone()

    engine.script = hang
    api = await start_api(engine, total_deadline_s=0.3)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    with pytest.raises(ConnectionResetError):
        await client.rest()
    await eventually(lambda: engine.open == 0)
