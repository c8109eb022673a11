"""Who answered a conversation's last turn: the longest prefix counts, memory is bounded, old turns expire."""

from nodes.mesh.ids import NodeId
from nodes.mesh.routing_affinity import CONVERSATIONS_MAX, KEPT_S, Affinity

A, B = NodeId("a"), NodeId("b")
BOTH = {A, B}


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_first_known_key_decides() -> None:
    turns = Affinity()
    turns.keep(key(1), A, 0.0)
    turns.keep(key(2), B, 0.0)
    assert turns.find([key(3), key(2), key(1)], BOTH, 0.0) == B
    assert turns.find([key(3), key(1)], BOTH, 0.0) == A
    assert turns.find([key(3)], BOTH, 0.0) is None


def test_host_that_serves_no_more_is_passed_over_for_an_earlier_turns() -> None:
    turns = Affinity()
    turns.keep(key(1), A, 0.0)
    turns.keep(key(2), B, 0.0)
    assert turns.find([key(2), key(1)], {A}, 0.0) == A


def test_turn_belongs_to_who_answered_it_last() -> None:
    turns = Affinity()
    turns.keep(key(1), A, 0.0)
    turns.keep(key(1), B, 1.0)
    assert turns.find([key(1)], BOTH, 1.0) == B


def test_turn_expires() -> None:
    turns = Affinity()
    turns.keep(key(1), A, 0.0)
    assert turns.find([key(1)], BOTH, KEPT_S) == A
    assert turns.find([key(1)], BOTH, KEPT_S + 1) is None


def test_longest_unused_turn_is_forgotten_first() -> None:
    turns = Affinity(limit=3)
    for number in (1, 2, 3):
        turns.keep(key(number), A, 0.0)
    turns.keep(key(1), A, 1.0)
    turns.keep(key(4), A, 2.0)
    assert len(turns) == 3
    assert turns.find([key(2)], BOTH, 2.0) is None
    assert turns.find([key(1)], BOTH, 2.0) == A


def test_turns_are_bounded() -> None:
    turns = Affinity()
    for number in range(CONVERSATIONS_MAX + 100):
        turns.keep(key(number), A, 0.0)
    assert len(turns) == CONVERSATIONS_MAX
