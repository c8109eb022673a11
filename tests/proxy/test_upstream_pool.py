"""Connections to an engine: reused when that is safe, never when it is not."""

import asyncio

from tests.proxy.conftest import StartApi, eventually, post
from tests.proxy.fake_upstream import DONE, Call, FakeUpstream, answer_ok, event, stream_ok

CHAT = "/v1/chat/completions"
BODY = b'{"model":"demo"}'


async def test_connection_is_reused_after_a_whole_answer(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    for _ in range(5):
        assert (await api.post(CHAT, BODY))[0] == 200
    assert engine.connections == 1


async def test_connection_is_not_reused_after_a_stream(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def trap(call: Call) -> None:
        await stream_ok(call)
        await asyncio.sleep(0.02)
        call.cut()  # announced keep-alive, closes all the same

    engine.script = trap
    api = await start_api(engine)
    for _ in range(5):
        status, _, body = await api.post(CHAT, BODY)
        assert status == 200
        assert body.endswith(DONE)
    assert [call.number for call in engine.calls] == [0] * 5
    assert engine.connections <= 6


async def test_one_spare_connection_waits_while_streams_run_and_the_next_one_takes_it(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def slow(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0))
        await call.client_gone()

    engine.script = slow
    api = await start_api(engine)
    for streams in (1, 2, 3):
        client = await api.connect()
        await client.send(post(CHAT, BODY))
        await client.until(event(0))
        await eventually(lambda wanted=streams + 1: engine.open == wanted)  # type: ignore[misc]
        assert engine.busy == streams
    assert engine.connections == 4


async def test_idle_connection_that_died_is_replaced_unseen(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def close_on_second(call: Call) -> None:
        if call.number == 1:
            call.cut()
            return
        await answer_ok(call)

    engine.script = close_on_second
    api = await start_api(engine)
    for _ in range(6):
        assert (await api.post(CHAT, BODY))[0] == 200
    assert {r.retries for r in api.records} == {0}


async def test_fresh_connection_that_dies_is_not_tried_again(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def die(call: Call) -> None:
        call.cut()

    engine.script = die
    api = await start_api(engine)
    assert (await api.post(CHAT, BODY))[0] == 502
    assert len(engine.calls) == 1


async def test_idle_connections_are_closed_before_the_engine_does(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine, upstream_keep_alive_s=0.2)
    await api.post(CHAT, BODY)
    assert engine.open == 1
    await eventually(lambda: engine.open == 0, wait_s=2)


async def test_answer_that_announces_a_close_is_not_reused(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def closing(call: Call) -> None:
        await call.json(b"{}", more=b"Connection: close\r\n")

    engine.script = closing
    api = await start_api(engine)
    await api.post(CHAT, BODY)
    await api.post(CHAT, BODY)
    assert engine.connections == 2


async def test_more_requests_than_connections_allowed_get_503(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    release = asyncio.Event()

    async def wait(call: Call) -> None:
        await release.wait()
        await call.json(b"{}")

    engine.script = wait
    api = await start_api(engine, upstream_connections_limit=2)
    waiting = [asyncio.create_task(api.post(CHAT, BODY)) for _ in range(2)]
    await eventually(lambda: len(engine.calls) == 2)
    status, headers, _ = await api.post(CHAT, BODY)
    assert status == 503
    assert b"retry-after" in headers
    release.set()
    assert [(await w)[0] for w in waiting] == [200, 200]


async def test_large_body_arrives_whole_and_is_not_held_after(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    body = b'{"model":"demo","x":"' + b"y" * 5_000_000 + b'"}'
    assert (await api.post(CHAT, body))[0] == 200
    assert engine.calls[0].body == body
    assert api.app._bodies.held_bytes == 0


async def test_engine_that_answers_before_the_whole_body_is_heard(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await asyncio.sleep(0.5)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        api.upstreams[0] = type(api.upstreams[0])(
            **{
                **{f: getattr(api.upstreams[0], f) for f in api.upstreams[0].__dataclass_fields__},
                "port": port,
            }
        )
        body = b'{"x":"' + b"y" * 8_000_000 + b'"}'
        assert (await api.post(CHAT, body))[0] == 400


async def test_events_arrive_as_they_are_written_not_gathered(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    step = asyncio.Event()

    async def stepwise(call: Call) -> None:
        await call.begin_stream()
        for n in range(3):
            await call.chunk(event(n))
            await step.wait()
            step.clear()
        await call.end_stream()

    engine.script = stepwise
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    for n in range(3):
        await client.until(event(n))
        step.set()
    await client.until(b"0\r\n\r\n")
    client.close()
