"""What an operator is told about machines: drained, expelled, blocked, let in, turned away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from meshsite import member_door
from meshsite.mesh_side import MeshSide
from meshsite.operator_door import OperatorDoor
from nodes.mesh.announcement import Announcement, ServedModelLine
from nodes.mesh.events import TimePassed
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import NodeId
from nodes.mesh.node import MeshNode
from nodes.runtime.approvals import Approvals
from nodes.runtime.driver import Driver
from nodes.runtime.feed import Feed
from nodes.runtime.handle import Outcome
from nodes.runtime.join_messages import JoinRequest
from nodes.runtime.mesh_key import new_mesh
from nodes.runtime.token_ledger import TokenLedger
from tests.fakes.node_actions import NoActions
from tests.nodes.mesh.facts import ME, ready, serving_node

BARN = NodeId("cd" * 32)
JUNIPER = NodeId("ef" * 32)


class Member(MeshSide):
    """A member with a real ledger and real approvals, and no network."""

    def __init__(self) -> None:
        """Only what these actions need."""
        self.key = new_mesh()
        self.ledger = TokenLedger(None)
        self.approvals = Approvals(True)
        self.revoked: list[str] = []
        self.revoked_tokens: list[str] = []
        self.rotated = 0
        self.post: Callable[[TimePassed], None]

    def revoke(self, node_id: NodeId) -> None:
        self.revoked.append(node_id)
        self.post(TimePassed())  # As the real one: the core takes something, so the door can wait.

    def revoke_token(self, token_id: str) -> Any:
        self.revoked_tokens.append(token_id)
        return self.ledger.revoke(token_id)

    def rotate(self) -> None:
        self.rotated += 1


def barn(role: str = "host", *lines: ServedModelLine) -> MemberView:
    said = Announcement(name="barn", role=role, serving=lines)
    return MemberView(BARN, MemberState.ALIVE, False, 7, 1, said, None)


class Room:
    """A node with a driver, and its door."""

    def __init__(self, node: MeshNode) -> None:
        self.node, self.side = node, Member()
        self.driver = Driver(node, Feed(), NoActions())
        self.side.post = self.driver.post
        self.door = OperatorDoor(
            self.driver,
            self.side,
            lambda name: asyncio.create_task(_fetched()),
            lambda reason: None,
        )


async def _fetched() -> str:
    return ""


@pytest.fixture
async def room_of() -> AsyncIterator[Callable[[MeshNode], Room]]:
    tasks: list[asyncio.Task[None]] = []

    def made(node: MeshNode) -> Room:
        room = Room(node)
        tasks.append(asyncio.create_task(room.driver.run()))
        return room

    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


RoomOf = Callable[[MeshNode], Room]


async def test_this_node_is_drained_and_serves_again(room_of: RoomOf) -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    door = room_of(node).door
    told = await door.drain("")
    assert (told.ok, told.outcome) == (True, Outcome.BEGUN)
    assert "open answers may finish" in told.text
    assert (await door.drain(ME.node_id)).text == "llama-box is drained already."
    refused = await door.load("other")
    assert (refused.outcome, "undrain it first" in refused.text) == (Outcome.REFUSED, True)
    assert "drained" in (await door.restart("tiny")).text
    assert (await door.undrain("")).ok
    assert not node.serving.drained


async def test_an_idle_node_is_drained_at_once(room_of: RoomOf) -> None:
    told = await room_of(serving_node()).door.drain("")
    assert told.outcome is Outcome.DONE
    assert "until it is undrained or started again" in told.text


async def test_another_node_that_does_not_confirm_is_no_success(
    room_of: RoomOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_door, "CONFIRM_S", 0.1)
    node = serving_node()
    node.members.take([barn()], 1.0)
    told = await room_of(node).door.drain("barn")
    assert (told.ok, told.outcome) == (False, Outcome.UNCONFIRMED)
    assert "did not confirm it yet" in told.text


async def test_another_node_is_drained_once_it_says_so_itself(room_of: RoomOf) -> None:
    node = serving_node()
    node.members.take([barn()], 1.0)
    asked = asyncio.create_task(room_of(node).door.drain(BARN[:8]))
    await asyncio.sleep(0.1)
    assert not asked.done()
    node.members.take([barn("drained", ServedModelLine("tiny", "draining"))], 2.0)
    told = await asked
    assert (told.outcome, "barn takes no new requests" in told.text) == (Outcome.BEGUN, True)


async def test_the_dead_are_not_drained(room_of: RoomOf) -> None:
    node = serving_node()
    view = barn()
    gone = MemberView(BARN, MemberState.DEAD, False, 7, 1, view.announcement, None)
    node.members.take([gone], 1.0)
    told = await room_of(node).door.drain("barn")
    assert (told.outcome, "barn is dead" in told.text) == (Outcome.REFUSED, True)
    assert not (await room_of(node).door.drain("cellar")).ok


async def test_blocking_takes_back_the_token_that_it_came_by_and_those_it_gave_out(
    room_of: RoomOf,
) -> None:
    node = serving_node()
    node.members.take([barn()], 1.0)
    room = room_of(node)
    key, ledger = room.side.key, room.side.ledger
    came_by = ledger.issue(key, ME.node_id, [], lifetime_s=3600)
    other = ledger.issue(key, ME.node_id, [], lifetime_s=3600)
    gave_out = ledger.issue(key, BARN, [], lifetime_s=3600)
    ledger.redeem(key, came_by, BARN, client=False)
    told = await room.door.block("barn")
    assert (told.ok, room.side.revoked, room.side.rotated) == (True, [BARN], 0)
    assert set(room.side.revoked_tokens) == {came_by.token_id, gave_out.token_id}
    assert other.token_id not in room.side.revoked_tokens
    assert told.text == "barn is blocked. 2 tokens of its let nobody in any more."


async def test_blocking_one_whose_token_is_not_known_here_ends_all_tokens(room_of: RoomOf) -> None:
    node = serving_node()
    node.members.take([barn()], 1.0)
    room = room_of(node)
    told = await room.door.block("barn")
    assert (told.ok, room.side.revoked, room.side.rotated) == (True, [BARN], 1)
    assert "the mesh has a new key" in told.text


async def test_revoking_leaves_the_tokens_alone(room_of: RoomOf) -> None:
    node = serving_node()
    node.members.take([barn()], 1.0)
    room = room_of(node)
    assert (await room.door.revoke("barn")).ok
    assert (room.side.revoked, room.side.revoked_tokens, room.side.rotated) == ([BARN], [], 0)
    assert not (await room.door.block(ME.node_id)).ok


async def test_a_waiting_machine_is_let_in_or_turned_away(room_of: RoomOf) -> None:
    room = room_of(serving_node())
    asks = JoinRequest(token="mesh1-x", client=False, name="juniper", software="0.1.0")
    room.side.approvals.ask(JUNIPER, asks)
    assert not (await room.door.approve("")).ok
    told = await room.door.reject(JUNIPER)
    assert (told.outcome, "juniper is not let in" in told.text) == (Outcome.DONE, True)
    assert (await room.door.approve(JUNIPER)).outcome is Outcome.REFUSED
    room.side.approvals.ask(BARN, asks)
    assert (await room.door.approve(BARN[:9])).outcome is Outcome.BEGUN
