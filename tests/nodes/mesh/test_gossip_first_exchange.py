"""What follows a link that comes up: the tables are exchanged, and the exchange is repeated until it was."""

from itertools import pairwise

from nodes.mesh.gossip_events import LinkDown, LinkEnd, LinkId, RequestFailed
from nodes.mesh.messages import Sync
from tests.nodes.mesh.gossip_facts import Bench, requests
from tests.sim.identities import node_id_of


def _syncs(effects: list) -> list:
    return [effect for effect, message in requests(effects) if isinstance(message, Sync)]


def test_the_dialling_end_begins_and_the_other_waits() -> None:
    assert len(_syncs(Bench().link("n0001", dialled=True))) == 1
    assert _syncs(Bench().link("n0001", dialled=False)) == []


def test_a_lost_first_exchange_is_repeated_by_both_ends_with_growing_waits() -> None:
    for dialled in (True, False):
        bench = Bench()
        for effect in _syncs(bench.link("n0001", dialled=dialled)):
            bench.give(RequestFailed(effect.request))
        times = []
        for _ in range(90):
            for effect in _syncs(bench.run(1.0)):
                times.append(bench.now)
                bench.give(RequestFailed(effect.request))
        waits = [b - a for a, b in pairwise(times)]
        assert times[0] <= 102 and 4 <= len(times) <= 20
        assert waits[-1] > waits[0]


def test_a_link_that_is_gone_is_greeted_no_more() -> None:
    bench = Bench()
    bench.link("n0001", dialled=False)
    bench.give(LinkDown(node_id_of("n0001"), LinkId(1), LinkEnd.CLOSED))
    assert _syncs(bench.run(30)) == []


def test_a_new_link_does_not_wait_for_the_exchange_of_the_one_before() -> None:
    bench = Bench()
    assert len(_syncs(bench.link("n0001", 1, dialled=True))) == 1
    assert len(_syncs(bench.link("n0001", 2, dialled=True))) == 1
