"""The front as an HTTP/1.1 server: what clients may do, and what odd requests are told."""

import asyncio
import json
from typing import Any

import pytest

from tests.proxy.conftest import StartApi, eventually, post
from tests.proxy.fake_upstream import Call, FakeUpstream, event, stream_ok

CHAT = "/v1/chat/completions"
BODY = b'{"model":"demo"}'
GET = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n"


def error_of(answer: bytes) -> Any:
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set(body["error"]) >= {"message", "type", "code", "param"}
    return body["error"]


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/models HTTP/1.1\nHost: localhost\n\n",
        b"GET /v1/models HTTP/1.1\r\nHost : localhost\r\n\r\n",
        post(CHAT, b"abc", b"Transfer-Encoding: chunked\r\n"),
        post(CHAT, b"abc", b"Content-Length: 3\r\n"),
        post(CHAT, b"abc", b"Content-Length: 4\r\n"),
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"GET v1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_malformed_or_smuggling_request_gets_400_and_a_close(
    start_api: StartApi, engine: FakeUpstream, raw: bytes
) -> None:
    api = await start_api(engine)
    answer = await api.ask(raw)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close\r\n" in answer
    assert error_of(answer)["code"] == "bad_request"
    assert engine.calls == []


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: %b\r\n" % (n, b"x" * 999) for n in range(70)),
        b"GET /" + b"x" * 70_000,
    ],
)
async def test_too_large_head_gets_431(start_api: StartApi, head: bytes) -> None:
    api = await start_api()
    answer = await api.ask(head)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert error_of(answer)["code"] == "headers_too_large"


async def test_head_without_end_is_refused_before_it_is_gathered(start_api: StartApi) -> None:
    api = await start_api()
    client = await api.connect()
    await client.send(b"GET / HTTP/1.1\r\nA: ")
    for _ in range(200):
        await client.send(b"x" * 10_000)
    assert (await client.rest()).startswith(b"HTTP/1.1 431 ")


async def test_slow_head_gets_408(start_api: StartApi) -> None:
    api = await start_api(head_deadline_s=0.2)
    client = await api.connect()
    await client.send(b"GET / HT")
    assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


async def test_head_that_drips_gets_408_all_the_same(start_api: StartApi) -> None:
    api = await start_api(head_deadline_s=0.3)
    client = await api.connect()
    answer = asyncio.create_task(client.rest())
    for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nA: aaaaaaaaaaaaaa":
        if answer.done():
            break
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0.03)
    assert (await answer).startswith(b"HTTP/1.1 408 ")


async def test_body_that_stops_gets_408(start_api: StartApi, engine: FakeUpstream) -> None:
    api = await start_api(engine, body_idle_deadline_s=0.2)
    client = await api.connect()
    await client.send(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab"
    )
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 408 ")
    await eventually(lambda: api.app._bodies.held_bytes == 0)


async def test_body_that_drips_gets_408_at_its_total_deadline(start_api: StartApi) -> None:
    api = await start_api(body_deadline_s=0.3)
    client = await api.connect()
    await client.send(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n"
    )
    answer = asyncio.create_task(client.rest())
    for _ in range(60):
        if answer.done():
            break
        client.writer.write(b"x")
        await asyncio.sleep(0.03)
    assert (await answer).startswith(b"HTTP/1.1 408 ")


async def test_idle_connection_is_closed(start_api: StartApi) -> None:
    api = await start_api(keep_alive_deadline_s=0.2)
    client = await api.connect()
    await client.send(GET + b"\r\n")
    assert (await client.answer())[0] == 200
    assert await client.rest() == b""


async def test_pipelined_requests_are_answered_in_order(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def echo(call: Call) -> None:
        if b"slow" in call.body:
            await asyncio.sleep(0.1)
        await call.json(call.body)

    engine.script = echo
    api = await start_api(engine)
    bodies = [b'{"user":"slow"}', b'{"user":"b"}', b'{"user":"slow c"}', b'{"user":"d"}']
    client = await api.connect()
    await client.send(b"".join(post(CHAT, b) for b in bodies) + GET + b"Connection: close\r\n\r\n")
    for body in bodies:
        assert (await client.answer())[2] == body
    assert (await client.answer())[0] == 200
    assert await client.rest() == b""


async def test_many_pipelined_requests_in_single_bytes_are_all_answered(
    start_api: StartApi,
) -> None:
    api = await start_api(pipelined_limit=2)
    client = await api.connect()
    await client.send((GET + b"\r\n") * 200)
    for _ in range(200):
        assert (await client.answer())[0] == 200
    for byte in GET + b"\r\n":
        await client.send(bytes([byte]))
    assert (await client.answer())[0] == 200
    client.close()


async def test_malformed_request_behind_a_good_one_is_told_after_its_answer(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.1)
        await call.json(b"{}")

    engine.script = slow
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY) + b"nonsense\r\n\r\n")
    assert (await client.answer())[0] == 200
    assert (await client.answer())[0] == 400
    assert await client.rest() == b""


async def test_half_closed_client_gets_its_answer(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.4)  # longer than the probe waits
        await stream_ok(call)

    engine.script = slow
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    client.writer.write_eof()
    answer = await client.rest()
    assert answer.startswith((b"HTTP/1.1 102 ", b"HTTP/1.1 200 "))
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_half_closed_client_of_a_quick_answer_sees_no_interim_response(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    client.writer.write_eof()
    assert (await client.rest()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_client_that_closes_before_the_answer_frees_the_engine(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    gone = asyncio.Event()

    async def wait(call: Call) -> None:
        await call.client_gone()
        gone.set()

    engine.script = wait
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    await eventually(lambda: engine.calls)
    client.close()
    await asyncio.wait_for(gone.wait(), 1)
    await eventually(lambda: api.records)
    assert api.records[0].outcome == "client_gone"


async def test_client_that_closes_while_the_engine_is_silent_midway_frees_it(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def silent(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0))
        await call.client_gone()

    engine.script = silent
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    await client.until(event(0))
    client.close()
    await eventually(lambda: engine.busy == 0, wait_s=1)


async def test_half_closed_client_of_a_slow_stream_gets_every_event(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def slow(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0))
        await asyncio.sleep(0.4)
        await call.chunk(event(1))
        await call.end_stream()

    engine.script = slow
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    client.writer.write_eof()
    _, _, body = await client.answer()
    assert body.replace(b":\n\n", b"") == event(0) + event(1)


async def test_expect_100_continue_is_answered_when_the_body_is_wanted(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    client = await api.connect()
    head, _, body = post(CHAT, BODY, b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    await client.send(head + b"\r\n\r\n")
    assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(body)
    assert (await client.answer())[0] == 200
    client.close()


async def test_expect_100_continue_of_a_refused_request_gets_the_refusal(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    client = await api.connect()
    head = post("/v1/nothing", BODY, b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")[0]
    await client.send(head + b"\r\n\r\n")
    assert (await client.answer())[0] == 404
    assert await client.rest() == b""


async def test_chunked_upload_reaches_the_engine_whole(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    client = await api.connect()
    await client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    for byte in BODY:
        await client.send(b"1;ext=1\r\n%c\r\n" % byte)
    await client.send(b"0\r\nTrailer: x\r\n\r\n")
    assert (await client.answer())[0] == 200
    assert engine.calls[0].body == BODY
    client.close()


async def test_endless_trailers_are_refused(start_api: StartApi, engine: FakeUpstream) -> None:
    api = await start_api(engine)
    client = await api.connect()
    await client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: "
    )
    for _ in range(200):
        await client.send(b"x" * 10_000)
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_http_1_0_client_gets_a_body_until_the_close(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    engine.script = stream_ok
    api = await start_api(engine)
    answer = await api.ask(
        b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body.endswith(b"data: [DONE]\n\n")


async def test_head_has_the_headers_of_get_and_no_body(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    client = await api.connect()
    await client.send(GET + b"\r\n" + b"HEAD" + GET[3:] + b"Connection: close\r\n\r\n")
    _, headers, body = await client.answer()
    status, head_headers, _ = await client.answer(head_only=True)
    assert status == 200
    assert head_headers[b"content-length"] == headers[b"content-length"] == b"%d" % len(body)
    assert await client.rest() == b""


async def test_upgrade_is_answered_as_http_1_1(start_api: StartApi) -> None:
    api = await start_api()
    answer = await api.ask(GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_absolute_form_target_is_understood(start_api: StartApi) -> None:
    api = await start_api()
    answer = await api.ask(
        b"GET http://localhost/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
