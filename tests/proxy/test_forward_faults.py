"""Engines that fail: the next one is asked before the first byte, the client is told after it."""

import asyncio
import json
import socket

import pytest

from proxy.records import Outcome
from tests.proxy.conftest import StartApi, eventually, post
from tests.proxy.fake_upstream import DONE, Call, FakeUpstream, answer_ok, event, stream_ok

CHAT = "/v1/chat/completions"
BODY = b'{"model":"demo","stream":true}'


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


async def die(call: Call) -> None:
    call.cut()


async def die_after_headers(call: Call) -> None:
    await call.begin_stream()
    call.cut()


async def die_midway(call: Call) -> None:
    await call.begin_stream()
    await call.chunk(event(0))
    await call.chunk(event(1) + b'data: {"choices":[{"del')
    await asyncio.sleep(0.05)
    call.cut()


async def hang(call: Call) -> None:
    await call.client_gone()


async def loading(call: Call) -> None:
    await call.json(b'{"error":{"message":"Loading model","code":503}}', b"503 Service Unavailable")


async def not_http(call: Call) -> None:
    await call.write(b"SSH-2.0-nonsense\r\n\r\n")


@pytest.mark.parametrize("fault", [die, die_after_headers, loading, not_http])
async def test_next_engine_answers_when_the_first_fails_before_the_first_byte(
    start_api: StartApi, engine: FakeUpstream, other_engine: FakeUpstream, fault: object
) -> None:
    engine.script = fault  # type: ignore[assignment]
    other_engine.script = stream_ok
    api = await start_api(engine, other_engine)
    status, headers, body = await api.post(CHAT, BODY)
    assert status == 200
    assert body == b"".join(event(n) for n in range(3)) + DONE
    assert headers[b"x-mesh-node"] == b"02" * 32
    await eventually(lambda: api.records)
    assert api.records[0].retries == 1
    assert api.records[0].outcome == "answered"


async def test_next_engine_answers_when_the_first_refuses_connections(
    start_api: StartApi, engine: FakeUpstream, other_engine: FakeUpstream
) -> None:
    await engine.stop()
    api = await start_api(engine, other_engine)
    assert (await api.post(CHAT, BODY))[0] == 200


@pytest.mark.parametrize("fault", [die, die_after_headers, not_http])
async def test_only_engine_failing_before_the_first_byte_gives_502(
    start_api: StartApi, engine: FakeUpstream, fault: object
) -> None:
    engine.script = fault  # type: ignore[assignment]
    api = await start_api(engine)
    status, _, body = await api.post(CHAT, BODY)
    assert status == 502
    assert json.loads(body)["error"]["code"] == "upstream_failed"


async def test_loading_engine_gives_503_with_retry_after(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    engine.script = loading
    api = await start_api(engine)
    status, headers, body = await api.post(CHAT, BODY)
    assert (status, json.loads(body)["error"]["code"]) == (503, "model_loading")
    assert int(headers[b"retry-after"]) > 0


async def test_silent_engine_gives_504_at_the_first_byte_deadline(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    engine.script = hang
    api = await start_api(engine, first_byte_deadline_s=0.2)
    assert (await api.post(CHAT, BODY))[0] == 504
    await eventually(lambda: engine.open == 0)


async def test_stream_that_dies_ends_with_an_error_event_and_no_done(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    engine.script = die_midway
    api = await start_api(engine)
    status, _, body = await api.post(CHAT, BODY)
    assert status == 200
    good = event(0) + event(1)
    assert body.startswith(good)
    rest = body[len(good) :]
    assert rest.startswith(b"event: error\ndata: {")
    assert json.loads(rest.split(b"data: ")[1])["error"]["code"] == "upstream_failed"
    assert b"[DONE]" not in body
    await eventually(lambda: api.records)
    assert api.records[0].outcome == "broken_off"


async def test_stream_that_falls_silent_ends_with_an_error_event(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def silent(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0))
        await call.client_gone()

    engine.script = silent
    api = await start_api(engine, upstream_idle_deadline_s=0.2)
    _, _, body = await api.post(CHAT, BODY)
    assert body.startswith(event(0) + b"event: error\n")


@pytest.mark.parametrize("framing", ["sized", "chunked"])
async def test_whole_answer_that_breaks_is_cut_off_visibly(
    start_api: StartApi, engine: FakeUpstream, framing: str
) -> None:
    async def broken(call: Call) -> None:
        size = b"Content-Length: 1000" if framing == "sized" else b"Transfer-Encoding: chunked"
        await call.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%b\r\n\r\n" % size)
        await call.write(b'{"a":' if framing == "sized" else b'5\r\n{"a":\r\n')
        await asyncio.sleep(0.05)
        await call.write(b'"b"' if framing == "sized" else b'3\r\n"b"\r\n')
        await asyncio.sleep(0.05)
        call.cut()

    engine.script = broken
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await client.answer()
    await eventually(lambda: api.records)
    assert api.records[0].outcome == "broken_off"


async def test_http_1_0_client_sees_a_reset_when_a_whole_answer_breaks(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def broken(call: Call) -> None:
        await call.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        await call.write(b"3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        call.cut()

    engine.script = broken
    api = await start_api(engine)
    client = await api.connect()
    await client.send(b"POST /v1/completions HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
    with pytest.raises(ConnectionResetError):
        await client.rest()


async def test_client_that_leaves_midway_closes_the_engines_connection_at_once(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def endless(call: Call) -> None:
        await call.begin_stream()
        while True:
            await call.chunk(event(1))
            await asyncio.sleep(0.02)

    engine.script = endless
    api = await start_api(engine)
    for _ in range(10):
        client = await api.connect()
        await client.send(post(CHAT, BODY))
        await client.until(event(1))
        began = asyncio.get_running_loop().time()
        client.close()
        await eventually(lambda: engine.busy == 0, wait_s=1)
        assert asyncio.get_running_loop().time() - began < 0.3
    await eventually(lambda: len(api.records) == 10)
    assert {r.outcome.value for r in api.records} == {"client_gone"}
    assert api.app.in_flight() == 0


async def test_error_answers_of_the_engine_pass_through(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    text = b'{"error":{"code":400,"message":"exceeds","type":"exceed_context_size_error"}}'

    async def refuse(call: Call) -> None:
        await call.json(text, b"400 Bad Request", b"X-Engine: 1\r\n")

    engine.script = refuse
    api = await start_api(engine)
    status, headers, body = await api.post(CHAT, BODY)
    assert (status, body, headers[b"x-engine"]) == (400, text, b"1")


async def test_stop_lets_streams_finish_within_the_grace(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def slowly(call: Call) -> None:
        await call.begin_stream()
        for n in range(5):
            await call.chunk(event(n))
            await asyncio.sleep(0.05)
        await call.chunk(DONE)
        await call.end_stream()

    engine.script = slowly
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    await client.until(event(0))
    stopping = asyncio.create_task(api.server.stop(5))
    answer = await client.rest()
    assert DONE in answer
    await asyncio.wait_for(stopping, 2)
    with pytest.raises(ConnectionRefusedError):
        await api.connect()


async def test_stop_ends_longer_streams_with_an_error_event(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def endless(call: Call) -> None:
        await call.begin_stream()
        while True:
            await call.chunk(event(1))
            await asyncio.sleep(0.02)

    engine.script = endless
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    await client.until(event(1))
    stopping = asyncio.create_task(api.server.stop(0.2))
    answer = await client.rest()
    await asyncio.wait_for(stopping, 3)
    assert b"event: error\n" in answer
    assert b'"code":"node_stopping"' in answer
    assert b"[DONE]" not in answer
    assert answer.endswith(b"0\r\n\r\n")
    assert api.records[0].outcome == "stopped"


async def test_stop_answers_a_waiting_request_with_503(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    engine.script = hang
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    await eventually(lambda: engine.calls)
    await api.server.stop(0.1)
    assert (await client.rest()).startswith(b"HTTP/1.1 503 ")


async def test_interrupt_of_one_model_leaves_the_others(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    engine.script = hang
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    await eventually(lambda: api.app.in_flight("demo") == 1)
    assert api.app.interrupt("x", model="another") == 0
    assert api.app.interrupt("the engine is restarted", model="demo") == 1
    status, _, body = await client.answer()
    assert status == 503
    assert b"the engine is restarted" in body


async def test_interrupt_of_a_model_sends_unanswered_requests_to_another_host(
    start_api: StartApi, engine: FakeUpstream, other_engine: FakeUpstream
) -> None:
    engine.script, other_engine.script = hang, stream_ok
    api = await start_api(engine, other_engine)
    asking = asyncio.create_task(api.post(CHAT, BODY))
    await eventually(lambda: engine.calls)
    assert api.app.interrupt("demo is being stopped", model="demo") == 1
    status, headers, body = await asking
    assert (status, headers[b"x-mesh-node"]) == (200, b"02" * 32)
    assert body.endswith(DONE)
    await eventually(lambda: engine.open == 0 and api.records)
    assert "is being stopped there: demo is being stopped" in str(api.app.requests()[0]["tries"])


async def test_interrupt_of_a_model_ends_streams_that_have_begun(
    start_api: StartApi, engine: FakeUpstream, other_engine: FakeUpstream
) -> None:
    async def begins(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0))
        await call.client_gone()

    engine.script = begins
    api = await start_api(engine, other_engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    await client.until(event(0))
    assert api.app.interrupt("demo is being stopped", model="demo") == 1
    await client.until(b"event: error\n")
    assert not other_engine.calls


@pytest.mark.parametrize("first", ["client", "interrupt"])
async def test_client_that_leaves_as_its_model_stops_is_asked_for_nowhere_else(
    start_api: StartApi, engine: FakeUpstream, other_engine: FakeUpstream, first: str
) -> None:
    engine.script = hang
    api = await start_api(engine, other_engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    await eventually(lambda: engine.calls)
    (exchange,) = api.app._running._running
    if first == "client":
        exchange.end(Outcome.CLIENT_GONE)
    api.app.interrupt("demo is being stopped", model="demo")
    exchange.end(Outcome.CLIENT_GONE)
    await eventually(lambda: api.records)
    assert api.records[0].outcome == "client_gone"
    assert not other_engine.calls
    await eventually(lambda: engine.open == 0)
    client.close()


async def test_records_tell_what_happened(start_api: StartApi, engine: FakeUpstream) -> None:
    engine.script = answer_ok
    api = await start_api(engine)
    await api.post(CHAT, BODY, b"X-Request-Id: mine-1\r\n")
    await eventually(lambda: api.records)
    record = api.records[0]
    assert (record.id, record.path, record.model, record.status) == ("mine-1", CHAT, "demo", 200)
    assert (record.tokens, record.streamed, record.retries) == (7, False, 0)
    assert record.ttfb_ms is not None
    assert 0 < record.ttfb_ms <= record.total_ms
