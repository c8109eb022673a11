"""Operator messages over the channel layer: they reach the node, and no fault stops the door."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from channels.layers import get_channel_layer

from nodes import consumers
from nodes.consumers import GossipConsumer, run_gossip_channel
from nodes.runtime import handle as node_handle
from nodes.runtime.handle import OperatorResult
from tests.fakes.node_handle import ScriptedNode


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "LAYER_RETRY_S", (0.01, 0.05))


@pytest.fixture
def node() -> Iterator[ScriptedNode]:
    """Install a scripted node under an id of its own: the layer in memory is the process's."""
    yield ScriptedNode(node_id=uuid4().hex).install()
    node_handle.install(None)


@asynccontextmanager
async def _serving(
    node: ScriptedNode, start_driver: Callable[[], None] | None = None
) -> AsyncIterator[None]:
    task = asyncio.create_task(run_gossip_channel(node.fields["node_id"], start_driver))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _send(node: ScriptedNode, message: Any) -> None:
    await get_channel_layer().send(f"mesh.{node.fields['node_id']}", message)


def _asking(action: Any, model: Any = "m") -> dict[str, Any]:
    return {"type": "operator.message", "payload": {"action": action, "model": model}}


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _history(node: ScriptedNode) -> list[dict[str, Any]]:
    return list(node.feed.snapshot().history)


async def test_an_operator_message_reaches_the_node_and_its_outcome_the_history(
    node: ScriptedNode,
) -> None:
    async with _serving(node):
        await _send(node, _asking("drop"))
        await _until(lambda: _history(node))
    assert node.operator.asked == [("drop", "m")]
    (entry,) = _history(node)
    assert (entry["level"], entry["text"], entry["model"]) == ("info", "Done as asked.", "m")


async def test_a_refusal_of_the_node_is_told_as_a_warning(node: ScriptedNode) -> None:
    node.operator.result = OperatorResult(False, "Nobody serves m.")
    async with _serving(node):
        await _send(node, _asking("drop"))
        await _until(lambda: _history(node))
    assert _history(node)[0]["level"] == "warning"


async def test_an_action_that_fails_inside_is_told_and_the_next_one_works(
    node: ScriptedNode,
) -> None:
    async with _serving(node):
        node.operator.fault = RuntimeError("boom")
        await _send(node, _asking("restart"))
        await _until(lambda: len(_history(node)) == 1)
        node.operator.fault = None
        await _send(node, _asking("load"))
        await _until(lambda: len(_history(node)) == 2)
    texts = [entry["text"] for entry in _history(node)]
    assert texts == ["The action failed inside the node; its log says why.", "Done as asked."]


@pytest.mark.parametrize(
    "foreign",
    [
        {"type": "something.else"},
        {"no": "type"},
        {"type": "operator.message"},
        {"type": "operator.message", "payload": "drop"},
        {"type": "operator.message", "payload": {"action": ["drop"], "model": None}},
        {"type": 7},
    ],
)
async def test_a_foreign_message_harms_nothing(node: ScriptedNode, foreign: Any) -> None:
    async with _serving(node):
        await _send(node, foreign)
        await _send(node, _asking("drop"))
        await _until(lambda: ("drop", "m") in node.operator.asked)


async def test_a_failing_layer_is_asked_again(
    node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = get_channel_layer()
    faults = 3

    class Flaky:
        async def receive(self, channel: str) -> Any:
            nonlocal faults
            if faults:
                faults -= 1
                raise ConnectionError("Redis is away")
            return await real.receive(channel)

    monkeypatch.setattr(consumers, "get_channel_layer", Flaky)
    async with _serving(node):
        await _send(node, _asking("drop"))
        await _until(lambda: node.operator.asked)
    assert faults == 0


async def test_the_driver_is_started_once_layer_or_no_layer(
    node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise ConnectionError("no layer")

    monkeypatch.setattr(consumers, "get_channel_layer", broken)
    started: list[str] = []
    async with _serving(node, lambda: started.append("driver")):
        await asyncio.sleep(0.1)
    assert started == ["driver"]


async def test_a_slow_action_does_not_hold_up_the_next_one(node: ScriptedNode) -> None:
    released = asyncio.Event()
    quick_drop = node.operator.drop

    async def slow_load(model: str) -> OperatorResult:
        await released.wait()
        return OperatorResult(True, "Loaded at last.")

    node.operator.load = slow_load  # type: ignore[method-assign]
    node.operator.drop = quick_drop  # type: ignore[method-assign]
    async with _serving(node):
        await _send(node, _asking("load"))
        await _send(node, _asking("drop"))
        await _until(lambda: len(_history(node)) == 1)
        released.set()
        await _until(lambda: len(_history(node)) == 2)


async def test_actions_at_once_are_bounded(node: ScriptedNode) -> None:
    released = asyncio.Event()

    async def slow(model: str) -> OperatorResult:
        await released.wait()
        return OperatorResult(True, "Loaded.")

    node.operator.load = slow  # type: ignore[method-assign]
    consumer = GossipConsumer()
    for _ in range(consumers.OPERATOR_TASKS_MAX + 1):
        await consumer.operator_message(_asking("load"))
    await _until(lambda: _history(node))
    assert _history(node)[0]["text"] == "Too many actions at once: try again."
    released.set()
    await _until(lambda: len(_history(node)) == consumers.OPERATOR_TASKS_MAX + 1)
