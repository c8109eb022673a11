"""`POST /api/chat`: streams through the API in process, and every end of it is told."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import AsyncClient

from nodes import chat_view
from nodes.chat_call import ApiCall
from nodes.markup import GrowingMessage
from nodes.runtime import handle as node_handle
from tests.fakes.node_handle import NODE_ID, SECRET, ScriptedNode

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def node() -> Iterator[ScriptedNode]:
    """Install a node that answers to any name: the async test client sends one of its own."""
    yield ScriptedNode(host_names=("*",)).install()
    node_handle.install(None)


async def _ask(client: AsyncClient, body: Any = BODY) -> Any:
    return await client.post("/api/chat", body, "application/json")


async def _events(response: Any) -> list[tuple[str, dict[str, Any]]]:
    text = b"".join([part async for part in response.streaming_content]).decode()
    found = []
    for block in text.strip().split("\n\n"):
        kind, data = block.split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_an_answer_streams_text_html_and_its_facts(
    node: ScriptedNode, async_client: AsyncClient
) -> None:
    node.api.deltas = [{"reasoning_content": "hm"}, {"content": "**Hello"}, {"content": "** you"}]
    events = await _events(await _ask(async_client))
    assert [d["text"] for k, d in events if k == "text"] == ["**Hello", "** you"]
    assert [d["text"] for k, d in events if k == "reasoning"] == ["hm"]
    assert [d for k, d in events if k == "html"][-1]["blocks"] == [
        "<p><strong>Hello</strong> you</p>\n"
    ]
    kind, done = events[-1]
    assert kind == "done"
    assert done["node"] == NODE_ID
    assert done["usage"]["completion_tokens"] == 3
    assert node.api.bodies[0]["stream"] is True
    assert node.api.bodies[0]["stream_options"] == {"include_usage": True}


async def test_a_refusal_of_the_api_is_told_in_its_own_words(
    node: ScriptedNode, async_client: AsyncClient
) -> None:
    node.api.refusal = (503, {"message": "m is still loading.", "code": "model_loading"})
    events = await _events(await _ask(async_client))
    assert events[-1] == ("error", {"message": "m is still loading.", "code": "model_loading"})


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(
    node: ScriptedNode, async_client: AsyncClient
) -> None:
    node.api.breaks_off = True
    events = await _events(await _ask(async_client))
    assert events[-1][0] == "error"
    assert events[-1][1]["code"] == "broken_off"


async def test_leaving_cancels_the_call(node: ScriptedNode, async_client: AsyncClient) -> None:
    node.api.deltas = [{"content": "x"}] * 1000
    node.api.pause_s = 0.01
    response = await _ask(async_client)
    stream = response.streaming_content
    await anext(stream)
    await response._iterator.aclose()
    await asyncio.sleep(0.05)
    assert node.api.cancelled == 1
    assert not chat_view._under_way


async def test_chats_at_once_are_bounded(node: ScriptedNode, async_client: AsyncClient) -> None:
    marks = [object() for _ in range(chat_view.CHATS_MAX)]
    chat_view._under_way.update(marks)
    try:
        assert (await _ask(async_client)).status_code == 429
    finally:
        chat_view._under_way.difference_update(marks)


async def test_a_body_that_is_no_chat_or_too_long_is_refused(
    node: ScriptedNode, async_client: AsyncClient
) -> None:
    assert (await _ask(async_client, {"messages": "no"})).status_code == 400
    assert (await _ask(async_client, "{")).status_code == 400
    long = {"messages": [{"content": "x" * chat_view.CHAT_BODY_MAX_BYTES}]}
    assert (await _ask(async_client, long)).status_code == 413
    assert SECRET not in json.dumps(node.api.bodies)


def test_message_that_is_slow_to_render_is_rendered_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slowly(self: GrowingMessage) -> tuple[int, list[str]]:
        time.sleep(0.1)
        return 0, ["<ul></ul>"]

    monkeypatch.setattr(GrowingMessage, "blocks", slowly)
    answer = chat_view._Answer(ApiCall(ScriptedNode().handle().api, SECRET, BODY))
    answer._render()
    answer._dirty = True
    wait_s = answer._render_wait_s()
    assert wait_s is not None and wait_s > 0.8
