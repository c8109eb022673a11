"""Who waits for an operator's word, and what becomes of who is approved or turned away."""

import pytest

from nodes.mesh.ids import NodeId
from nodes.runtime.approvals import REJECTED_MAX, REJECTED_S, WAITING_S, Approvals
from nodes.runtime.join_messages import JoinRequest
from nodes.runtime.token_errors import JoinRejectedError

BOX = NodeId("ab" * 32)
ASKS = JoinRequest(token="mesh1-x", client=False, name="juniper", software="0.1.0")


class _Desk:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.changes = 0
        self.held = Approvals(True, self._changed, lambda: self.now_s)

    def _changed(self) -> None:
        self.changes += 1

    def names(self) -> list[str]:
        return [entry["name"] for entry in self.held.waiting()]


def test_a_machine_waits_until_it_is_approved_and_comes_in_at_its_next_knock() -> None:
    desk = _Desk()
    assert not desk.held.ask(BOX, ASKS)
    assert not desk.held.ask(BOX, ASKS)
    assert (desk.names(), desk.changes) == (["juniper"], 1)
    assert desk.held.approve(BOX)
    assert desk.names() == []
    assert desk.held.ask(BOX, ASKS)


def test_a_machine_that_is_turned_away_is_told_so_and_waits_no_longer() -> None:
    desk = _Desk()
    desk.held.ask(BOX, ASKS)
    assert desk.held.reject(BOX)
    assert (desk.names(), desk.changes) == ([], 2)
    with pytest.raises(JoinRejectedError, match="has not let this node in"):
        desk.held.ask(BOX, ASKS)
    assert desk.names() == []
    desk.now_s += REJECTED_S
    assert not desk.held.ask(BOX, ASKS), "started again later, it asks anew"
    assert desk.names() == ["juniper"]


def test_only_who_waits_can_be_approved_or_turned_away() -> None:
    desk = _Desk()
    assert desk.held.approve(BOX) is None
    assert desk.held.reject(BOX) is None
    desk.held.ask(BOX, ASKS)
    desk.now_s += WAITING_S
    assert desk.names() == []


def test_who_was_turned_away_is_forgotten_at_the_bound() -> None:
    desk = _Desk()
    for number in range(REJECTED_MAX + 1):
        box = NodeId(f"{number:064x}")
        desk.held.ask(box, ASKS)
        desk.held.reject(box)
    assert not desk.held.ask(NodeId(f"{0:064x}"), ASKS)
