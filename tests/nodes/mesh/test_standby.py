"""What a node without a task of its own does next, and what it remembers for it."""

from nodes.mesh.announcement import Announcement, ServedModelLine
from nodes.mesh.causes import Cause
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import ModelName
from nodes.mesh.offer_book import OfferBook
from nodes.mesh.offers import MeshSnapshot, Offer
from nodes.mesh.settle import SETTLE_S, Settle
from nodes.mesh.standby import (
    COLD_FOR_S,
    LOST_FOR_S,
    LOST_MAX,
    RANK_STEP_S,
    SPOILED_FOR_S,
    GiveBack,
    Outcome,
    StandBy,
    Standby,
    TakeUp,
    outranked,
    without,
)
from tests.nodes.mesh.offers_lab import node_id, offer, snapshot

A = ModelName("A")


def settled(memory: Standby, seen: MeshSnapshot, now: float = 0.0) -> Outcome | None:
    return memory.outcome(seen, now)[0]


def three(me: str, **more: object) -> MeshSnapshot:
    standbys = [offer(f"s{i}", disk={"A": 8}) for i in range(3)]
    return snapshot(*standbys, me=me, lost=["A"], **more)


def test_lost_model_falls_to_one_and_to_the_next_ones_two_seconds_apart() -> None:
    memories = {f"s{i}": Standby() for i in range(3)}
    first_at: dict[str, float] = {}
    for tenths in range(80):
        now = tenths / 10
        for name, memory in memories.items():
            memory.newcomer = False
            if isinstance(settled(memory, three(name), now), TakeUp):
                first_at.setdefault(name, now)
    assert sorted(first_at.values()) == [0.0, RANK_STEP_S, 2 * RANK_STEP_S]
    assert RANK_STEP_S + SETTLE_S <= 5.0


def test_turn_of_the_next_one_is_its_deadline_and_a_served_wish_begins_anew() -> None:
    memories = {f"s{i}": Standby() for i in range(3)}
    for name, memory in memories.items():
        settled(memory, three(name), 10.0)
    waits = sorted(m.deadline for m in memories.values() if m.deadline is not None)
    assert waits == [10.0 + RANK_STEP_S, 10.0 + 2 * RANK_STEP_S]
    (last,) = [n for n, m in memories.items() if m.deadline == waits[1]]
    host = offer("host", serves={"A": "ready"}, disk={"A": 8})
    served = snapshot(*three(last).offers.values(), host, me=last)
    settled(memories[last], served, 11.0)
    assert memories[last].deadline is None
    settled(memories[last], three(last), 12.0)
    assert memories[last].deadline == 12.0 + 2 * RANK_STEP_S


def test_only_a_newcomer_takes_up_another_copy() -> None:
    host = offer("host", serves={"A": "ready"}, disk={"A": 8})
    seen = snapshot(offer("me", disk={"A": 8}), host)
    memory = Standby()
    found = settled(memory, seen)
    assert isinstance(found, TakeUp)
    assert found.assignment.cause is Cause.SPARE
    memory.newcomer = False
    assert isinstance(settled(memory, seen), StandBy)


def test_of_two_that_took_up_one_need_the_ready_one_stays() -> None:
    ready = offer("a", serves={"A": "ready"}, disk={"A": 8}, cause=Cause.NEEDED)
    loading = offer("b", serves={"A": "loading"}, disk={"A": 8}, cause=Cause.NEEDED)
    assert isinstance(settled(Standby(), snapshot(loading, ready)), GiveBack)
    assert settled(Standby(), snapshot(ready, loading)) is None


def test_of_two_equals_exactly_one_gives_way() -> None:
    a = offer("a", serves={"A": "ready"}, disk={"A": 8}, cause=Cause.NEEDED)
    b = offer("b", serves={"A": "ready"}, disk={"A": 8}, cause=Cause.NEEDED)
    assert outranked(snapshot(a, b), A) != outranked(snapshot(b, a), A)


def test_copy_beside_an_operators_own_host_or_a_silent_rival_is_kept() -> None:
    mine = offer("a", serves={"A": "ready"}, disk={"A": 8}, cause=Cause.NEEDED)
    own = offer("b", serves={"A": "ready"}, disk={"A": 8})
    silent = offer("c", serves={"A": "ready"}, disk={"A": 8}, cause=Cause.NEEDED, rank_last=True)
    assert not outranked(snapshot(mine, own, silent), A)


def test_copy_for_demand_goes_back_only_after_long_quiet() -> None:
    copy = offer("a", serves={"A": "ready"}, disk={"A": 8}, cause=Cause.DEMAND)
    host = offer("b", serves={"A": "ready"}, disk={"A": 8})
    found, wait_s = Standby().outcome(snapshot(copy, host), 0.0)
    assert isinstance(found, GiveBack)
    assert wait_s == COLD_FOR_S


def test_lost_and_spoiled_models_are_bounded_and_forgotten_in_time() -> None:
    memory = Standby()
    memory.lose(frozenset(ModelName(f"m{i:03d}") for i in range(LOST_MAX + 9)), 0.0)
    assert len(memory.lost(1.0)) == LOST_MAX
    assert memory.lost(LOST_FOR_S + 1) == frozenset()
    memory.spoil(A, 0.0)
    assert memory.spoiled(SPOILED_FOR_S - 1) == {A}
    assert memory.spoiled(SPOILED_FOR_S) == frozenset()


def test_lost_model_that_is_served_or_dropped_is_lost_no_more() -> None:
    memory = Standby()
    memory.lose(frozenset({A, ModelName("B")}), 0.0)
    host = offer("host", serves={"A": "loading"}, disk={"A": 8})
    memory.found(snapshot(host, lost=["A", "B"], dropped=["B"]))
    assert memory.lost(1.0) == frozenset()


def test_what_could_not_be_fetched_is_not_fetched_again() -> None:
    seen = snapshot(offer("me"), catalogue={"A": 8, "B": 8})
    assert without(seen, frozenset({A})).catalogue.keys() == {"B"}
    assert without(seen, frozenset({ModelName("C")})) is seen


def test_outcome_settles_only_while_it_stays_the_same() -> None:
    settle: Settle[str] = Settle()
    assert settle.see("x", 0.0) is None
    assert settle.deadline == SETTLE_S
    assert settle.see("y", 1.0) is None
    assert settle.see("y", 1.0 + SETTLE_S - 0.1) is None
    assert settle.see("y", 1.0 + SETTLE_S) == "y"
    assert settle.see(None, 9.0) is None
    assert settle.deadline is None


def view(
    name: str, *models: str, version: int = 0, state: MemberState = MemberState.ALIVE
) -> MemberView:
    lines = tuple(ServedModelLine(m, "ready", 4) for m in models)
    said = Announcement(name=name, memory_bytes=10**9, serving=lines)
    return MemberView(node_id(name), state, False, 1, version, said, None)


def test_book_tells_when_the_last_host_of_a_model_is_gone() -> None:
    book = OfferBook()
    assert book.take([view("a", "A"), view("b", "A", "B")]) == frozenset()
    assert book.hosts(A) == 2
    assert book.take([view("a", "A", state=MemberState.DEAD)]) == frozenset()
    assert book.take([view("b", version=1)]) == {"A", "B"}
    assert len(book) == 1


def test_book_counts_changes_arrivals_and_the_groups_they_touch() -> None:
    book = OfferBook()
    book.take([view("a", "A")])
    assert (book.changes, book.arrivals, book.touched) == (1, 1, {"A"})
    book.touched.clear()
    book.take([view("a", "A")])
    book.take([view("a", "A", version=1)])
    assert (book.changes, book.arrivals, book.touched) == (1, 1, set())
    book.take([view("a", "A", state=MemberState.LEFT)])
    assert (book.arrivals, book.touched) == (2, {"A"})
    own: Offer = offer("me")
    assert set(book.snapshot(own, frozenset(), frozenset(), {}).offers) == {own.node_id}
