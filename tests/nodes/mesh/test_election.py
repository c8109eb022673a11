"""Who hosts a model: alone wherever it fits, split only where it fits nowhere or somebody forces it."""

import itertools

import pytest

from nodes.mesh.election import Mode, chief, elect, next_term, orders
from nodes.mesh.ids import ModelName
from nodes.mesh.offers import Offer, Split
from tests.nodes.mesh.offers_lab import node_id, offer, snapshot, splits, works

BIG = ModelName("Qwen2.5-32B")
NONE: frozenset[ModelName] = frozenset()


def test_two_nodes_that_both_fit_are_each_their_own_host() -> None:
    a = offer("box-1", 24, serves={BIG: "ready"}, disk={BIG: 18.7})
    b = offer("box-2", 20, serves={BIG: "waiting"}, disk={BIG: 18.7})
    found = elect(snapshot(a, b), BIG)
    assert found.mode is Mode.SOLO
    assert set(found.hosts) == {a.node_id, b.node_id}
    assert all(v.accepted for v in found.verdicts)


def test_node_that_cannot_hold_it_defers_to_the_one_that_can_with_its_reason() -> None:
    a = offer("box-1", 24, serves={BIG: "ready"}, disk={BIG: 18.7})
    b = offer("box-2", 16, serves={BIG: "waiting"}, disk={BIG: 18.7})
    found = elect(snapshot(a, b), BIG)
    assert found.hosts == (a.node_id,)
    assert "rejected box-2: needs 18.7 GB, offers 16.0 GB" in [v.sentence for v in found.verdicts]


def test_free_node_with_file_and_memory_is_deferred_to_before_any_split() -> None:
    a = offer("box-1", 12, serves={BIG: "waiting"}, disk={BIG: 18.7}, rtts={"box-2": 1})
    idle = offer("box-2", 24, disk={BIG: 18.7})
    found = elect(snapshot(a, idle), BIG)
    assert found.mode is Mode.SOLO
    assert found.hosts == (idle.node_id,)


def test_too_big_for_all_waits_with_what_is_missing() -> None:
    a = offer("box-1", 12, serves={BIG: "waiting"}, disk={BIG: 40})
    b = offer("box-2", 16, serves={BIG: "waiting"}, disk={BIG: 40}, rtts={"box-1": 1})
    found = elect(snapshot(a, b), BIG)
    assert found.mode is Mode.WAIT
    assert found.text == "Waiting for more peers - need 40.0 GB, have 28.0 GB"
    assert elect(snapshot(a), BIG).text == "Waiting for more peers - need 40.0 GB, have 12.0 GB"


def test_group_memory_that_covers_it_makes_one_split_with_the_largest_as_host() -> None:
    a = offer("box-1", 12, serves={BIG: "waiting"}, disk={BIG: 26})
    b = offer("box-2", 16, serves={BIG: "waiting"}, disk={BIG: 26}, rtts={"box-1": 1})
    found = elect(snapshot(a, b), BIG)
    assert found.mode is Mode.SPLIT
    assert found.hosts == (b.node_id,)
    assert found.placement is not None
    assert [seat.node_id for seat in found.placement.seats] == [b.node_id, a.node_id]
    assert found.placement.tensor_split == (0.57, 0.43)


def test_equal_memory_is_decided_by_the_higher_node_id() -> None:
    offers = [offer(f"n{i}", 16, serves={BIG: "waiting"}, disk={BIG: 26}) for i in range(5)]
    for order in itertools.islice(itertools.permutations(offers), 20):
        host = chief(order, BIG)
        assert host is not None
        assert host.node_id == max(o.node_id for o in offers)


@pytest.mark.parametrize("version", ["", "7"])
def test_largest_node_of_another_rpc_version_does_not_keep_the_others_waiting(version: str) -> None:
    a = offer("a", 24, serves={BIG: "waiting"}, disk={BIG: 26}, rpc_version=version)
    b = offer("b", 16, serves={BIG: "waiting"}, disk={BIG: 26}, rtts={"c": 1})
    c = offer("c", 12, serves={BIG: "waiting"}, disk={BIG: 26})
    found = elect(snapshot(a, b, c, me="b"), BIG)
    assert (found.mode, found.hosts) == (Mode.SPLIT, (b.node_id,))
    assert [seat.node_id for seat in found.seats] == [b.node_id, c.node_id]
    few = elect(snapshot(a, offer("c", 1, serves={BIG: "waiting"}, disk={BIG: 26})), BIG)
    assert (few.mode, few.hosts) == (Mode.WAIT, (a.node_id,))
    assert "its engine speaks RPC version 8, the host's" in str(few.verdicts)


def test_model_that_more_peers_cannot_help_does_not_wait_for_them() -> None:
    def text(layers: int, *more: Offer) -> str:
        a = offer(
            "a", 16, serves={BIG: "waiting"}, disk={BIG: 26}, layers=layers, rtts={"b": 1, "c": 1}
        )
        return elect(snapshot(a, *more), BIG).text

    b, c = offer("b", 64), offer("c", 9)
    told = (
        f"{BIG} cannot be split (its file does not tell its layers): it needs a node with 26.0 GB"
    )
    assert text(0, b) == told
    assert "it has one layer" in text(1, b)
    assert text(36, c) == "Waiting for more peers - need 26.0 GB, have 25.0 GB"
    a = offer("a", 16, serves={BIG: "waiting"}, disk={BIG: 40}, layers=2, rtts={"b": 1, "c": 1})
    told = elect(snapshot(a, offer("b", 20), offer("c", 20)), BIG).text
    assert told == (
        "Waiting for larger peers - need 40.0 GB, and 56.0 GB are spread over more nodes than a split of "
        "2 layers may have"
    )


def test_force_of_any_member_splits_what_fits_and_only_for_its_group() -> None:
    a = offer("box-1", 24, serves={BIG: "ready"}, disk={BIG: 18.7})
    b = offer("box-2", 20, serves={BIG: "waiting"}, disk={BIG: 18.7}, force_split=True,
              rtts={"box-1": 1})  # fmt: skip
    found = elect(snapshot(a, b), BIG)
    assert found.mode is Mode.SPLIT
    assert found.forced
    assert found.hosts == (a.node_id,)
    other = offer("box-3", 24, serves={"small": "ready"}, disk={"small": 2})
    assert elect(snapshot(a, b, other), ModelName("small")).mode is Mode.SOLO


def test_forced_without_any_worker_runs_solo_meanwhile() -> None:
    a = offer("box-1", 24, serves={BIG: "waiting"}, disk={BIG: 18.7}, force_split=True)
    far = offer("box-2", 20, serves={BIG: "waiting"}, disk={BIG: 18.7}, rtts={"box-1": 120})
    assert elect(snapshot(a), BIG).hosts == (a.node_id,)
    found = elect(snapshot(a, far), BIG)
    assert found.mode is Mode.SOLO
    assert "rejected box-2: 120 ms away, at most 80 ms are useful" in [
        v.sentence for v in found.verdicts
    ]


def test_node_without_engine_or_file_never_hosts() -> None:
    a = offer("box-1", 64, serves={BIG: "waiting"}, disk={BIG: 18.7}, engine="")
    b = offer("box-2", 64, serves={BIG: "waiting"})
    found = elect(snapshot(a, b), BIG)
    assert found.mode is Mode.WAIT
    assert [v.why for v in sorted(found.verdicts, key=lambda v: v.name)][:2] == [
        "it has no engine",
        "it does not have the file",
    ]


def test_memory_taken_by_other_engines_of_the_node_does_not_count() -> None:
    a = offer("box-1", 24, serves={"other": "ready", BIG: "waiting"}, disk={BIG: 18.7, "other": 8})
    found = elect(snapshot(a), BIG)
    assert found.mode is Mode.WAIT
    assert "offers 16.0 GB" in found.verdicts[0].why


def test_engine_that_runs_is_not_moved_because_memory_drifted() -> None:
    a = offer("box-1", 18.6, serves={BIG: "ready"}, disk={BIG: 18.7})
    assert elect(snapshot(a), BIG).hosts == (a.node_id,)
    still_looking = offer("box-1", 18.6, serves={BIG: "loading"}, disk={BIG: 18.7}, slots=0)
    assert elect(snapshot(still_looking), BIG).mode is Mode.WAIT


def test_draining_node_is_no_host_and_a_model_nobody_is_to_serve_has_none() -> None:
    a = offer("box-1", 24, serves={BIG: "draining"}, disk={BIG: 18.7})
    assert elect(snapshot(a), BIG).mode is Mode.NOBODY


@pytest.mark.parametrize("me", ["box-1", "box-2", "box-3"])
def test_every_node_elects_the_same(me: str) -> None:
    offers = [
        offer("box-1", 12, serves={BIG: "waiting"}, disk={BIG: 40}, rtts={"box-3": 2}),
        offer("box-2", 16, serves={BIG: "waiting"}, disk={BIG: 40}, rtts={"box-3": 1}),
        offer("box-3", 18, serves={BIG: "waiting"}, disk={BIG: 40}),
    ]
    found = [elect(snapshot(*order, me=me), BIG) for order in itertools.permutations(offers)]
    assert len({(e.mode, e.hosts, e.placement.seats if e.placement else ()) for e in found}) == 1


def test_split_that_is_whole_goes_on_beside_one_of_a_higher_term_that_is_not() -> None:
    a = offer("a", 16, serves={BIG: "ready"}, disk={BIG: 26}, slots=0, splits=splits(BIG, 3, "w"))
    b = offer(
        "b", 14, serves={BIG: "loading"}, disk={BIG: 26}, slots=0, splits=splits(BIG, 9, "gone")
    )
    w = offer("w", 12, works=works(BIG, "a", 3))
    found = elect(snapshot(a, b, w), BIG)
    assert (found.stands, found.hosts) == (True, (a.node_id,))
    newer = offer(
        "b", 14, serves={BIG: "loading"}, disk={BIG: 26}, slots=0, splits=splits(BIG, 9, "w")
    )
    assert elect(snapshot(a, newer, w), BIG).hosts == (newer.node_id,)


@pytest.mark.parametrize("workers", [(), ("a",), ("w", "w"), ("w",) * 32, ("nobody",)])
@pytest.mark.parametrize(("layers", "each"), [(0, 10), (1, 2**53), (2, 0), (36, 40)])
def test_absurd_split_of_a_member_breaks_no_election(
    workers: tuple[str, ...], layers: int, each: int
) -> None:
    said = {BIG: Split(2**53, tuple((node_id(w), each) for w in workers))}
    a = offer("a", 16, serves={BIG: "ready"}, disk={BIG: 26}, layers=layers, splits=said, slots=0)
    w, me = offer("w", 12), offer("me", 12, serves={BIG: "waiting"}, disk={BIG: 26})
    assert elect(snapshot(me, w, a), BIG).mode in (Mode.SPLIT, Mode.WAIT)


def test_term_outranks_every_split_and_every_worker_that_is_known() -> None:
    assert next_term(snapshot(offer("a")), BIG) == 1
    host = offer("a", splits=splits(BIG, 4, "c"))
    worker = offer("b", works=works(BIG, "gone", 6))
    assert next_term(snapshot(host, worker), BIG) == 7


def test_worker_obeys_the_highest_term_and_among_equals_the_higher_id() -> None:
    old = offer("old", splits=splits(BIG, 3, "me"))
    new = offer("new", splits=splits(BIG, 4, "me"))
    mine = offer("me")
    found = orders((mine, old, new), mine.node_id, NONE)
    assert found is not None
    assert (found.host, found.term) == (new.node_id, 4)
    twin = offer("twin", splits=splits(BIG, 4, "me"))
    found = orders((mine, new, twin), mine.node_id, NONE)
    assert found is not None
    assert found.host == max(new.node_id, twin.node_id)
    assert orders((old, new), node_id("else"), NONE) is None


def test_orders_for_a_dropped_model_are_not_obeyed() -> None:
    host = offer("a", splits=splits(BIG, 1, "me"))
    assert orders((host,), node_id("me"), frozenset((ModelName(BIG),))) is None
