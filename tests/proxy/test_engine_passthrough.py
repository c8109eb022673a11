"""The API before a real llama-server: the bytes of its answers, and the openai SDK's own view."""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.proxy.conftest import Api, StartApi, eventually, post, upstream
from tests.proxy.fake_upstream import Call, FakeUpstream, event
from tests.proxy.real_servers import ask, real_server

pytestmark = pytest.mark.engine

VARYING = re.compile(
    rb'"(?:id|created|created_at|completed_at|system_fingerprint|timings|item_id|call_id|__verbose)"\s*:\s*'
    rb'(?:"[^"]*"|[\d.]+|\{[^}]*\})'
)


@pytest.fixture(scope="module")
def real_engine(engine_dir: Path) -> Iterator[int]:
    """The port of a real llama-server on the demo model."""
    with real_server(engine_dir, "-c", "8192", "-np", "4") as port:
        yield port


@pytest.fixture
async def api(start_api: StartApi, real_engine: int) -> Api:
    started = await start_api()
    started.upstreams.append(upstream(real_engine, model="tiny"))
    return started


def _chat(**more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], **more}


TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
SHAPES: list[tuple[str, dict[str, Any]]] = [
    _chat(),
    _chat(logprobs=True, top_logprobs=2),
    _chat(n=2),
    _chat(tools=[TOOL]),
    _chat(response_format=JSON_SCHEMA),
    _chat(stop=["a"]),
    _chat(stream_options={"include_usage": True}),
    _chat(messages="wrong"),
    _chat(messages=[]),
    _chat(messages=[{"role": "user", "content": "word " * 6000}]),
    ("/v1/completions", {"prompt": "once"}),
    ("/v1/completions", {"prompt": ["a", "b"]}),
    ("/v1/completions", {"prompt": "once", "n": 2}),
    ("/v1/responses", {"input": "hi"}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}]}),
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "hi"}]}),
    ("/v1/embeddings", {"input": "hi"}),
    ("/v1/rerank", {"query": "a", "documents": ["b"]}),
]
VARIED = [
    (path, {**body, "max_tokens": tokens, "temperature": 0, "stream": stream, "seed": seed})
    for (path, body), tokens, stream, seed in itertools.product(
        SHAPES, (1, 4, 16), (False, True), (1, 2)
    )
]


def steady(body: bytes) -> bytes:
    return VARYING.sub(b"", body)


def without_moods(headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
    ours = (b"date", b"x-request-id", b"x-mesh-node", b"access-control-allow-origin")
    hop = (b"keep-alive", b"connection", b"content-length")
    return {k: v for k, v in headers.items() if k not in (*ours, *hop)}


async def test_over_200_varied_requests_are_answered_as_the_engine_answers(
    api: Api, real_engine: int
) -> None:
    assert len(VARIED) >= 200
    statuses = set()
    for path, fields in VARIED:
        raw = post(path, json.dumps({**fields, "cache_prompt": False, "id_slot": 0}).encode())
        straight = await ask(real_engine, raw)
        through = await ask(api.port, raw)
        statuses.add(straight[0])
        assert through[0] == straight[0], (path, fields)
        assert steady(through[2]) == steady(straight[2]), (path, fields)
        assert without_moods(through[1]) == without_moods(straight[1]), (path, fields)
    assert {200, 400, 501} <= statuses


async def test_disconnect_frees_the_engines_slot_within_300_ms(api: Api, real_engine: int) -> None:
    body = json.dumps({"prompt": "a", "max_tokens": 2000, "stream": True, "ignore_eos": True})
    waits = []
    for _ in range(10):
        client = await api.connect()
        await client.send(post("/v1/completions", body.encode()))
        await client.until(b"data: ")
        began = asyncio.get_running_loop().time()
        client.close()
        while await _busy(real_engine):
            assert asyncio.get_running_loop().time() - began < 3
        waits.append(asyncio.get_running_loop().time() - began)
    assert sorted(waits)[-2] <= 0.3, waits


async def _busy(port: int) -> bool:
    _, _, body = await ask(port, b"GET /slots HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return any(slot["is_processing"] for slot in json.loads(body))


@pytest.fixture
async def sdk(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{api.port}/v1", api_key="none", max_retries=0, timeout=20
    ) as client:
        yield client


HI: Any = [{"role": "user", "content": "hi"}]


async def test_sdk_chats_streams_and_lists(sdk: openai.AsyncOpenAI) -> None:
    assert [m.id async for m in sdk.models.list()] == ["tiny"]
    assert (await sdk.models.retrieve("tiny")).id == "tiny"
    whole = await sdk.chat.completions.create(model="tiny", messages=HI, max_tokens=4)
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0
    stream = await sdk.chat.completions.create(model="auto", messages=HI, max_tokens=4, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_sdk_raises_its_own_exception_types(api: Api, sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.chat.completions.create(model="nope", messages=HI)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("nope")
    long: Any = [{"role": "user", "content": "word " * 9000}]
    with pytest.raises(openai.BadRequestError):
        await sdk.chat.completions.create(model="tiny", messages=long)
    with pytest.raises(openai.InternalServerError):
        await sdk.embeddings.create(model="tiny", input="hi")
    api.upstreams.clear()
    with pytest.raises(openai.InternalServerError) as nothing:
        await sdk.chat.completions.create(model="tiny", messages=HI)
    assert nothing.value.status_code == 503


async def test_sdk_raises_authentication_error_without_the_key(start_api: StartApi) -> None:
    api = await start_api(check_key=lambda key: False)
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{api.port}/v1", api_key="x", max_retries=0
    ) as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.models.list()


async def test_sdk_raises_api_error_when_a_stream_breaks(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def die(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0) + b"data: {half")
        await asyncio.sleep(0.05)
        call.cut()

    engine.script = die
    api = await start_api(engine)
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{api.port}/v1", api_key="x", max_retries=0
    ) as sdk:
        stream = await sdk.chat.completions.create(model="demo", messages=HI, stream=True)
        seen = []
        with pytest.raises(openai.APIError) as broken:
            async for chunk in stream:
                seen.append(chunk)
        assert len(seen) == 1
        assert "failed in the middle" in broken.value.message
    await eventually(lambda: api.records)
