"""Finding the way back: who is dialled again, how often, and when it ends."""

from collections import defaultdict
from itertools import pairwise

from nodes.mesh.config import lan
from nodes.mesh.gossip_effects import OpenLink, RememberContacts
from nodes.mesh.gossip_events import (
    Contact,
    DialFailed,
    JoinRequested,
    LeaveRequested,
    LinkDown,
    LinkEnd,
    LinkId,
    PeerRevoked,
)
from nodes.mesh.ids import NodeId
from nodes.mesh.rejoin import CONTACTS_MAX
from tests.nodes.mesh.gossip_facts import Bench, of
from tests.sim.cluster import Cluster
from tests.sim.identities import node_id_of


def _contact(name: str) -> Contact:
    return Contact(node_id_of(name), (f"{name}:1",))


def _dials(bench: Bench, duration_s: float) -> dict[NodeId | None, list[float]]:
    """Return when each was dialled; every dial fails at once."""
    found: dict[NodeId | None, list[float]] = defaultdict(list)
    end = bench.now + duration_s
    while bench.now < end:
        for effect in of(bench.run(0.1), OpenLink):
            found[effect.contact.node_id].append(bench.now)
            bench.give(DialFailed(effect.contact, refused=False))
    return found


def test_a_node_that_is_alone_redials_its_contacts_with_growing_waits_of_a_minute_at_most() -> None:
    bench = Bench()
    bench.give(JoinRequested((_contact("n0001"),)))
    times = _dials(bench, 900)[node_id_of("n0001")]
    waits = [b - a for a, b in pairwise(times)]
    assert waits[0] < 2.5 and max(waits) <= 60.2
    assert waits[-1] > 40
    assert len(set(waits[-5:])) > 1, "the waits have jitter"


def test_a_node_that_lost_all_its_links_redials_whom_it_knew() -> None:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0001", 1)
    bench.link("n0002", 2)
    bench.run(1.0)
    for number, name in ((1, "n0001"), (2, "n0002")):
        bench.give(LinkDown(node_id_of(name), LinkId(number), LinkEnd.LOST))
    assert {node_id_of("n0001"), node_id_of("n0002")} <= _dials(bench, 5).keys()


def test_a_contact_that_was_never_met_is_sought_although_there_are_other_links() -> None:
    bench = Bench()
    bench.give(JoinRequested((_contact("n0001"),)))
    bench.link("n0002")
    waits = [b - a for a, b in pairwise(_dials(bench, 600)[node_id_of("n0001")])]
    assert len(waits) > 8 and max(waits) <= 60.2


def test_a_contact_that_was_met_is_not_sought_when_it_goes() -> None:
    bench = Bench()
    bench.give(JoinRequested((_contact("n0001"),)))
    bench.link("n0002", 2)
    bench.link("n0001", 1)
    bench.give(LinkDown(node_id_of("n0001"), LinkId(1), LinkEnd.CLOSED))
    assert node_id_of("n0001") not in _dials(bench, 200)


def test_seeking_a_contact_ends_with_the_memory_of_the_dead_with_a_revocation_or_with_leaving() -> (
    None
):
    bench = Bench()
    bench.give(JoinRequested((_contact("n0001"),)))
    bench.link("n0002")
    bench.run(lan().dead_expiry_s + 60)
    assert node_id_of("n0001") not in _dials(bench, 200)
    for ending in (PeerRevoked(node_id_of("n0001")), LeaveRequested()):
        bench = Bench()
        bench.give(JoinRequested((_contact("n0001"),)))
        bench.link("n0002")
        bench.give(ending)
        assert node_id_of("n0001") not in _dials(bench, 200)


def test_contacts_are_bounded_and_the_latest_are_kept() -> None:
    bench = Bench()
    bench.give(JoinRequested(tuple(_contact(f"n{i:04d}") for i in range(1, 100))))
    dialled = _dials(bench, 120).keys()
    assert dialled == {node_id_of(f"n{i:04d}") for i in range(100 - CONTACTS_MAX, 100)}


def test_two_islands_meet_over_a_contact_that_was_away_when_it_was_named() -> None:
    """Seed 59: n2 was told of n0 while they were apart, then n3 came to n2, so that it was not alone."""
    cluster = Cluster(2, 59, warm=False)
    cluster.run(5)
    cluster.partition(cluster.nodes)
    cluster.network.sides = {0: 1, 1: 1}
    n2 = cluster.start("n0002")
    cluster.join(n2, [cluster.nodes[0]])
    n3 = cluster.start("n0003")
    cluster.join(n3, [n2])
    cluster.run(120)
    assert len(n2.views) == 1
    cluster.heal()
    assert cluster.network.run_until(cluster.converged, 70) is not None
    assert cluster.checkers.settle() == []


def test_after_a_restart_the_remembered_contacts_lead_back_without_any_token() -> None:
    cluster = Cluster(4, 3, warm=False)
    cluster.run(15)
    victim = cluster.nodes[3]
    assert len(victim.contacts) == 3
    cluster.network.kill(victim)
    cluster.run(10)
    again = cluster.start(victim.name)
    cluster.network.give(again, JoinRequested(victim.contacts))
    assert cluster.network.run_until(cluster.converged, 5) is not None


def test_contacts_are_remembered_some_seconds_after_the_table_changed_not_at_each_change() -> None:
    bench = Bench()
    bench.know(["n0001", "n0002", "n0003"])
    bench.link("n0002")
    assert of(bench.run(4.0), RememberContacts) == []
    told = of(bench.run(2.0), RememberContacts)
    assert len(told) == 1
    assert told[0].contacts[0].node_id == node_id_of("n0002"), "linked ones first"
    assert of(bench.run(20.0), RememberContacts) == []
