"""A real engine under the supervisor: ready, answering, stopped, crashed, frozen."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from models_registry.children import recorded
from models_registry.supervision.engine_http import ask
from nodes.mesh.events import ServerExited, ServerProgressed, ServerReady
from nodes.mesh.ids import RunId
from tests.models_registry.real_engine import real_engine
from tests.models_registry.supervising import QUICK, gone, plan, supervising, until

pytestmark = pytest.mark.engine
LONG = 30_000
"""Tokens of context: a stream of the tiny model fills them in half a minute, not within a test."""


async def open_stream(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a completion that streams without end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"prompt":"a","n_predict":100000,"stream":true,"ignore_eos":true}'
    head = b"POST /completion HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    writer.write(head + body)
    await reader.readuntil(b"data: ")
    return reader, writer


async def test_engine_becomes_ready_answers_and_stops_without_a_trace(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan(tiny_model))
        ready = await reports.wait_for(ServerReady)
        assert (ready.slots, ready.context) == (2, 512)
        assert supervisor.pids() == (ready.pid,)
        assert [child.pid for child in recorded(tmp_path / "run")] == [ready.pid]
        answer = await ask(
            ready.port, "/v1/completions", {"prompt": "a", "max_tokens": 2}, deadline_s=30
        )
        assert answer.status == 200

        await supervisor.stop(RunId(1), 5)
        assert gone(ready.pid)
        end = await reports.wait_for(ServerExited)
        assert (end.returncode, end.asked) == (0, True)
        assert supervisor.pids() == ()
        assert recorded(tmp_path / "run") == []
    phases = [event.phase for event in reports.events if isinstance(event, ServerProgressed)]
    assert phases[0] == "starting" and phases[-1] == "warming"
    assert reports.count(ServerExited) == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(ready.pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait


async def test_killed_engine_is_reported_once_as_not_asked(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan(tiny_model))
        ready = await reports.wait_for(ServerReady)
        os.kill(ready.pid, signal.SIGKILL)
        end = await reports.wait_for(ServerExited)
        assert (end.returncode, end.asked) == (-9, False)
        assert "memory" in end.reason
    assert reports.count(ServerExited) == 1


@pytest.mark.parametrize("in_a_request", [False, True])
async def test_frozen_engine_is_killed_within_the_bound(
    tmp_path: Path, tiny_model: Path, in_a_request: bool
) -> None:
    async with supervising(real_engine(), tmp_path, QUICK) as (supervisor, reports):
        await supervisor.start(plan(tiny_model, context=LONG))
        ready = await reports.wait_for(ServerReady)
        stream = await open_stream(ready.port) if in_a_request else None
        os.kill(ready.pid, signal.SIGSTOP)
        end = await reports.wait_for(ServerExited, timeout_s=15)
        assert (end.returncode, end.asked) == (-9, False)
        assert "did not answer" in end.reason
        assert gone(ready.pid)
        if stream:
            stream[1].close()


async def test_busy_engine_that_answers_is_never_taken_for_frozen(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with supervising(real_engine(), tmp_path, QUICK) as (supervisor, reports):
        await supervisor.start(plan(tiny_model, context=LONG))
        ready = await reports.wait_for(ServerReady)
        streams = [await open_stream(ready.port) for _ in range(2)]
        await asyncio.sleep(3 * (QUICK.check_interval_s + QUICK.silent_bound_s) / 2)
        assert reports.count(ServerExited) == 0
        for _, writer in streams:
            writer.close()


async def test_open_stream_has_the_grace_and_not_more(tmp_path: Path, tiny_model: Path) -> None:
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan(tiny_model, context=LONG))
        ready = await reports.wait_for(ServerReady)
        reader, writer = await open_stream(ready.port)
        loop = asyncio.get_running_loop()
        began_s = loop.time()

        async def read() -> float:
            while await reader.read(65536):
                pass
            return loop.time() - began_s

        reading = asyncio.create_task(read())
        await supervisor.stop(RunId(1), 1.0)
        took_s = loop.time() - began_s
        assert 0.9 <= took_s < 5.0
        assert await reading >= 0.9
        assert (await reports.wait_for(ServerExited)).asked
        writer.close()


async def test_idle_engine_does_not_use_up_the_grace(tmp_path: Path, tiny_model: Path) -> None:
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan(tiny_model))
        await reports.wait_for(ServerReady)
        async with asyncio.timeout(10):
            await supervisor.stop(RunId(1), 60)


async def test_embeddings_only_model_proves_itself_by_an_embedding(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan(tiny_model, embeddings=True))
        ready = await reports.wait_for(ServerReady)
        answer = await ask(ready.port, "/v1/embeddings", {"input": "a"}, deadline_s=30)
        assert answer.status == 200


async def test_own_rpc_server_dying_ends_the_run(tmp_path: Path, tiny_model: Path) -> None:
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan(tiny_model, rpc_self=True))
        ready = await reports.wait_for(ServerReady)
        (rpc_pid,) = set(supervisor.pids()) - {ready.pid}
        os.kill(rpc_pid, signal.SIGKILL)
        end = await reports.wait_for(ServerExited)
        assert end.asked is False
        assert "rpc-server" in end.reason
        await until(lambda: gone(ready.pid) and gone(rpc_pid))
        assert supervisor.pids() == ()
    assert reports.count(ServerExited) == 1


async def test_truncated_model_ends_with_the_engines_own_words(
    tmp_path: Path, tiny_model: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_model.read_bytes()[:1_000_000])
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan(broken))
        end = await reports.wait_for(ServerExited)
        assert (end.returncode, end.asked) == (1, False)
        assert "could not load the model" in end.reason and "corrupted or incomplete" in end.reason


async def test_prompt_quoted_in_an_engine_error_reaches_no_log(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan(tiny_model))
        ready = await reports.wait_for(ServerReady)
        reader, writer = await asyncio.open_connection("127.0.0.1", ready.port)
        body = b'{"messages": [{"role":"user","content":"my secret prompt'
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
            % len(body)
        )
        writer.write(body)
        await reader.readuntil(b"\r\n")
        writer.close()
        await until(
            lambda: any("left out" in line for line in supervisor.logs.tail("tiny", 0, 2000)[1])
        )
    kept = (tmp_path / "logs" / "engine-tiny.log").read_text()
    assert "left out" in kept and "secret" not in kept
    assert not any("secret" in line for line in supervisor.logs.tail("tiny", 0, 2000)[1])
