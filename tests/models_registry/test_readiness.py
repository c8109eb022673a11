"""Readiness is a real answer within a deadline that grows with the model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from models_registry.readiness import (
    NotReady,
    first_token_deadline_s,
    load_deadline_s,
    prove,
    wait_until_ready,
)
from models_registry.supervision.engine_http import MAX_ANSWER_BYTES, NoAnswer, ask
from tests.models_registry.supervising import facts

TOKEN = b'{"choices": [{"text": ""}]}'
PROPS = b'{"total_slots": 4, "default_generation_settings": {"n_ctx": 1024}}'


def http(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@asynccontextmanager
async def answering(**answers: bytes | list[bytes]) -> AsyncIterator[int]:
    """Yield the port of a server that gives each path's answers in turn, the last one for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n")).split()[1].decode().rsplit("/", 1)[1]
        given = answers[path]
        answer = (
            (given.pop(0) if len(given) > 1 else given[0]) if isinstance(given, list) else given
        )
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_engine_is_ready_after_loading_and_one_token() -> None:
    phases: list[str] = []
    loading = http(b'{"error": {"message": "Loading model"}}', 503)
    async with answering(
        health=[loading, loading, http(b"{}")], completions=http(TOKEN), props=http(PROPS)
    ) as port:
        shape = await wait_until_ready(port, facts("m"), phases.append)
    assert (shape.slots, shape.context) == (4, 1024)
    assert phases == ["loading", "warming"]


async def test_embedding_model_is_ready_after_one_embedding() -> None:
    body = b'{"data": [{"embedding": [0.5, -1]}]}'
    async with answering(health=http(b"{}"), embeddings=http(body), props=http(PROPS)) as port:
        await wait_until_ready(port, facts("m", embeddings=True), lambda phase: None)


@pytest.mark.parametrize(
    "answer",
    [
        http(b'{"choices": []}'),
        http(b"{}"),
        http(b"no json"),
        http(TOKEN, 500),
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_anything_but_a_token_is_not_ready(answer: bytes) -> None:
    async with answering(completions=answer) as port:
        with pytest.raises(NotReady):
            await prove(port, facts("m"), deadline_s=5)


async def test_embedding_that_is_no_number_is_not_ready() -> None:
    async with answering(embeddings=http(b'{"data": [{"embedding": [NaN, 1]}]}')) as port:
        with pytest.raises(NotReady):
            await prove(port, facts("m", embeddings=True), deadline_s=5)


async def test_engine_that_hides_its_slots_is_not_ready() -> None:
    async with answering(health=http(b"{}"), completions=http(TOKEN), props=http(b"{}")) as port:
        with pytest.raises(NotReady, match="/props"):
            await wait_until_ready(port, facts("m"), lambda phase: None)


async def test_silence_ends_at_the_deadline() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    async with server:
        with pytest.raises(NoAnswer, match=r"within 0\.2 s"):
            await ask(server.sockets[0].getsockname()[1], "/health", deadline_s=0.2)


async def test_answer_too_long_or_cut_off_is_no_answer() -> None:
    too_long = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_ANSWER_BYTES + 1)
    async with answering(
        props=too_long, slots=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
    ) as port:
        for path in ("/props", "/slots"):
            with pytest.raises(NoAnswer):
                await ask(port, path, deadline_s=5)


async def test_answer_without_a_length_is_read_to_its_end() -> None:
    async with answering(props=b"HTTP/1.1 200 OK\r\n\r\n{}") as port:
        assert (await ask(port, "/props", deadline_s=5)).json() == {}


def test_deadlines_grow_with_the_model() -> None:
    assert load_deadline_s(0) == 60 and first_token_deadline_s(0) == 30
    assert load_deadline_s(40_000_000_000) == 2060
    assert first_token_deadline_s(40_000_000_000) == 830
