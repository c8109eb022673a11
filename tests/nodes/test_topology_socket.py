"""`/ws/topology`: snapshot, folded deltas, bounds, and who may open it."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.http import HttpResponse

from nodes import access, consumers, live_view
from nodes.routing import websocket_application
from nodes.runtime import handle as node_handle
from nodes.runtime.feed import READER_PENDING_MAX
from tests.fakes.node_handle import NODE_ID, SECRET, ScriptedNode, model_entry, serving_state

PATH = "/ws/topology"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_view, "TICK_S", 0.01)


@pytest.fixture
def node() -> Iterator[ScriptedNode]:
    """Install a scripted node that serves one model."""
    made = ScriptedNode().install()
    made.feed.publish(serving_state())
    yield made
    node_handle.install(None)


def _socket(path: str = PATH, **headers: str) -> WebsocketCommunicator:
    given = {"host": "localhost:3131", **headers}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    return WebsocketCommunicator(websocket_application(), path, headers=pairs)


@asynccontextmanager
async def _live(**headers: str) -> AsyncIterator[WebsocketCommunicator]:
    socket = _socket(**headers)
    accepted, _ = await socket.connect()
    assert accepted
    yield socket
    await socket.disconnect()


async def _frame(socket: WebsocketCommunicator, ack: bool = True) -> dict[str, Any]:
    frame: dict[str, Any] = await socket.receive_json_from(timeout=5)
    if ack:
        await socket.send_json_to({"type": "ack", "n": frame["n"]})
    return frame


async def _closed_with(socket: WebsocketCommunicator) -> int:
    while True:
        output = await socket.receive_output(timeout=5)
        if output["type"] == "websocket.close":
            return int(output["code"])


async def test_the_first_frame_is_everything(node: ScriptedNode) -> None:
    node.feed.record({"at": 1.0, "level": "info", "text": "Ready."})
    async with _live() as socket:
        frame = await _frame(socket)
    assert (frame["type"], frame["n"], frame["seq"]) == ("snapshot", 1, node.feed.seq)
    assert frame["state"]["model/mesh-demo"]["status"] == "warm"
    assert [entry["text"] for entry in frame["history"]] == ["Ready."]


async def test_changes_of_one_tick_come_as_one_delta(node: ScriptedNode) -> None:
    async with _live() as socket:
        seq = (await _frame(socket))["seq"]
        node.feed.publish({"model/a": model_entry("a")})
        node.feed.publish({"model/b": model_entry("b")})
        node.feed.publish({"model/a": model_entry("a", in_flight=3)}, ("model/b",))
        frame = await _frame(socket)
    assert (frame["type"], frame["after"], frame["seq"]) == ("delta", seq, seq + 3)
    assert list(frame["put"]) == ["model/a"]
    assert frame["put"]["model/a"]["in_flight"] == 3
    assert frame["drop"] == ["model/b"]


async def test_history_keeps_its_place_between_changes(node: ScriptedNode) -> None:
    async with _live() as socket:
        seq = (await _frame(socket))["seq"]
        node.feed.publish({"model/a": model_entry("a")})
        node.feed.record({"at": 1.0, "level": "info", "text": "Between."})
        node.feed.publish({"model/b": model_entry("b")})
        frames = [await _frame(socket) for _ in range(3)]
    assert [frame["type"] for frame in frames] == ["delta", "history", "delta"]
    assert [frame["after"] for frame in frames] == [seq, seq + 1, seq + 2]


@pytest.mark.parametrize("seed", range(5))
async def test_every_frame_applied_gives_the_fresh_snapshot(node: ScriptedNode, seed: int) -> None:
    chance = random.Random(seed)
    state: dict[str, Any] = {}
    seq = -1
    async with _live() as socket:
        for _ in range(60):
            for _ in range(chance.choice([0, 1, 3, 40])):
                key = f"model/{chance.randrange(6)}"
                if chance.random() < 0.3:
                    node.feed.publish({}, (key,))
                else:
                    node.feed.publish({key: {"name": key, "in_flight": chance.random()}})
            await asyncio.sleep(0)
        while seq != node.feed.seq:
            frame = await _frame(socket)
            if frame["type"] == "snapshot":
                state = frame["state"]
            else:
                assert frame["after"] == seq
                for key in frame["drop"]:
                    state.pop(key, None)
                state.update(frame["put"])
            seq = frame["seq"]
    assert state == node.feed.state


async def test_a_browser_that_fell_behind_gets_a_snapshot_instead(node: ScriptedNode) -> None:
    async with _live() as socket:
        await _frame(socket)
        for turn in range(READER_PENDING_MAX + 10):
            node.feed.publish({"model/a": model_entry("a", in_flight=turn)})
        frame = await _frame(socket)
    assert frame["type"] == "snapshot"
    assert frame["state"]["model/a"]["in_flight"] == READER_PENDING_MAX + 9


async def test_a_browser_that_asks_gets_a_snapshot(node: ScriptedNode) -> None:
    async with _live() as socket:
        first = await _frame(socket)
        await socket.send_json_to({"type": "resync"})
        again = await _frame(socket)
    assert (again["type"], again["seq"], again["n"]) == ("snapshot", first["seq"], 2)


async def test_a_client_that_never_acknowledges_is_bounded_and_closed(
    node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_view, "SILENT_CLIENT_BYTES_MAX", 20_000)
    socket = _socket()
    await socket.connect()
    sent = 0
    while True:
        node.feed.publish({"model/a": {"name": "a", "reason": "x" * 4000, "in_flight": sent}})
        output = await socket.receive_output(timeout=5)
        if output["type"] == "websocket.close":
            break
        sent += len(output["text"])
    assert output["code"] == live_view.CLOSE_UNREAD
    assert sent < 30_000
    await socket.disconnect()
    assert not node.feed._readers


async def test_a_client_that_stops_acknowledging_gets_few_more_frames_and_is_closed(
    node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_view, "ACK_TIMEOUT_S", 0.2)
    socket = _socket()
    await socket.connect()
    await _frame(socket)
    frames = 0
    while True:
        node.feed.publish({"model/a": {"name": "a", "in_flight": frames}})
        output = await socket.receive_output(timeout=5)
        if output["type"] == "websocket.close":
            break
        frames += 1
    assert output["code"] == live_view.CLOSE_UNREAD
    assert frames == live_view.UNACKNOWLEDGED_MAX
    await socket.disconnect()


async def test_an_acknowledgement_of_the_future_gives_no_credit(node: ScriptedNode) -> None:
    async with _live() as socket:
        await _frame(socket)
        await socket.send_json_to({"type": "ack", "n": 10**9})
        for turn in range(live_view.UNACKNOWLEDGED_MAX + 3):
            node.feed.publish({"model/a": {"name": "a", "in_flight": turn}})
            await asyncio.sleep(0.05)
        for _ in range(live_view.UNACKNOWLEDGED_MAX):
            await _frame(socket, ack=False)
        assert await socket.receive_nothing(0.2)


async def test_log_lines_come_in_increments_while_asked_for(node: ScriptedNode) -> None:
    node.logs.lines["mesh-demo"] = [f"line {n}" for n in range(1, 301)]
    async with _live() as socket:
        await _frame(socket)
        await socket.send_json_to({"type": "log", "model": "mesh-demo"})
        first = await _frame(socket)
        assert (first["first"], len(first["lines"])) == (101, live_view.LOG_LINES_MAX)
        node.logs.lines["mesh-demo"] += ["line 301", "line 302"]
        more = await _frame(socket)
        assert (more["first"], more["lines"]) == (301, ["line 301", "line 302"])
        await socket.send_json_to({"type": "log", "model": ""})
        node.logs.lines["mesh-demo"] += ["line 303"]
        assert await socket.receive_nothing(0.2)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.example"},
    ],
)
async def test_a_foreign_page_or_name_is_refused(
    node: ScriptedNode, headers: dict[str, str]
) -> None:
    socket = _socket(**headers)
    assert (await socket.connect())[0] is False
    assert not node.feed._readers


@pytest.mark.parametrize("origin", ["http://localhost:3131", "http://127.0.0.1:8000"])
async def test_our_own_pages_are_let_in(node: ScriptedNode, origin: str) -> None:
    async with _live(origin=origin) as socket:
        assert (await _frame(socket))["type"] == "snapshot"


async def test_without_a_node_and_on_other_paths_nothing_opens(node: ScriptedNode) -> None:
    assert (await _socket("/ws/other").connect())[0] is False
    node_handle.install(None)
    assert (await _socket().connect())[0] is False


async def test_beyond_loopback_a_stranger_is_refused_and_an_operator_let_in() -> None:
    ScriptedNode(loopback_only=False, host_names=("*",)).install()
    try:
        assert (await _socket(host="box.lan:3131").connect())[0] is False
        assert (await _socket(host="box.lan", cookie="broken=\x01;;=").connect())[0] is False
        async with _live(host="box.lan:3131", authorization=f"Bearer {SECRET}"):
            pass
        response = HttpResponse()
        access.open_operator_session(response, secure=False)
        name = f"mesh_operator_{NODE_ID[:8]}"
        async with _live(host="box.lan:3131", cookie=f"{name}={response.cookies[name].value}"):
            pass
    finally:
        node_handle.install(None)


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"type": "drop", "model": "mesh-demo"}',
        '{"type": "ack", "n": "1"}',
        '{"type": "log", "model": 1}',
        '{"type": "log", "model": "' + "x" * consumers.CLIENT_MESSAGE_MAX_CHARS + '"}',
    ],
)
async def test_what_is_not_ours_closes_the_connection(node: ScriptedNode, text: str) -> None:
    socket = _socket()
    await socket.connect()
    await socket.send_to(text_data=text)
    assert await _closed_with(socket) == consumers.CLOSE_FLOODED
    await socket.disconnect()
    assert node.operator.asked == []


async def test_bytes_and_floods_close_the_connection(node: ScriptedNode) -> None:
    binary = _socket()
    await binary.connect()
    await binary.send_to(bytes_data=b"\x00")
    assert await _closed_with(binary) == consumers.CLOSE_FLOODED
    await binary.disconnect()
    flood = _socket()
    await flood.connect()
    for _ in range(consumers.CLIENT_MESSAGES_PER_S_MAX + 1):
        await flood.send_json_to({"type": "resync"})
    assert await _closed_with(flood) == consumers.CLOSE_FLOODED
    await flood.disconnect()


async def test_a_view_that_ended_leaves_nothing_behind(node: ScriptedNode) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(5):
        async with _live() as socket:
            await _frame(socket)
    await asyncio.sleep(0.05)
    assert not node.feed._readers
    assert len(asyncio.all_tasks()) == before


async def test_an_open_view_ends_when_its_viewer_may_no_longer_see_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumers, "RECHECK_S", 0.05)
    ScriptedNode(loopback_only=False, host_names=("*",)).install()
    may = True
    monkeypatch.setattr(access, "websocket_may_view", lambda *_: may)
    async with _live(host="box.lan:3131") as socket:
        await _frame(socket)
        await asyncio.sleep(0.2)
        may = False
        assert await _closed_with(socket) == consumers.CLOSE_REFUSED
    node_handle.install(None)
