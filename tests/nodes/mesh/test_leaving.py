"""A clean leave: known everywhere within half a second, believed from its subject alone."""

import pytest

from nodes.mesh.gossip_effects import LeaveFinished, MemberState, OpenLink, PublishMembers
from nodes.mesh.gossip_events import LeaveRequested
from nodes.mesh.records import Record, parse_record
from tests.nodes.mesh.gossip_facts import Bench, datagrams, of, record
from tests.sim.cluster import Cluster
from tests.sim.identities import node_id_of
from tests.sim.parts import Faults

PEER = node_id_of("n0001")


def _farewell(name: str) -> Record:
    return record(name, 1_000_000, 1, left=True)


def _states(effects: list) -> list[tuple[str, MemberState]]:
    return [(v.node_id, v.state) for e in of(effects, PublishMembers) for v in e.changed]


def test_a_leaving_node_says_farewell_three_times_to_each_link_and_is_done_in_time() -> None:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0001", 1)
    bench.link("n0002", 2)
    bench.run(1.0)
    started, before = bench.now, len(bench.told)
    bench.give(LeaveRequested())
    bench.run(2.0)
    since = bench.told[before:]
    done = [at for at, e in since if isinstance(e, LeaveFinished)]
    assert len(done) == 1 and done[0] - started <= 0.5
    for peer in ("n0001", "n0002"):
        farewells = [
            m for p, m in datagrams([e for _, e in since]) if p == node_id_of(peer) and m.updates
        ]
        assert len(farewells) >= 3


def test_a_leaving_node_without_links_is_done_as_well_and_asking_twice_is_asking_once() -> None:
    bench = Bench()
    bench.give(LeaveRequested())
    bench.give(LeaveRequested())
    assert len(of(bench.run(1.0), LeaveFinished)) == 1
    assert of(bench.run(300.0), OpenLink) == []


def test_who_left_is_published_as_left_at_once_and_gossip_does_not_bring_it_back() -> None:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0002", 2)
    assert _states(bench.hear_record(_farewell("n0001"), "n0002")) == [(PEER, MemberState.LEFT)]
    bench.hear_record(record("n0001"), "n0002")
    assert PEER not in {v.node_id for v in bench.node.members()}
    assert PEER not in {e.contact.node_id for e in of(bench.run(120), OpenLink)}, (
        "it is not called back"
    )


def test_who_left_and_starts_again_is_back_by_its_own_contact() -> None:
    cluster = Cluster(4, 3, warm=False)
    cluster.run(8)
    leaver = cluster.nodes[2]
    cluster.leave(leaver)
    cluster.run(2)
    assert all(leaver.node_id not in n.views for n in cluster.nodes)
    cluster.restart(leaver.name)
    took = cluster.network.run_until(cluster.converged, 5)
    assert took is not None and took <= 2


def test_nobody_can_say_farewell_for_another() -> None:
    forged = _farewell("n0001")
    bench = Bench()
    bench.know(["n0001", "n0002"])
    signature_of_another = bytearray(forged.line)
    at = signature_of_another.index(forged.claim.signature)
    signature_of_another[at] ^= 1
    broken = parse_record(bytes(signature_of_another))
    assert broken is not None
    bench.link("n0002", 2)
    bench.hear_record(broken, "n0002")
    assert PEER in {v.node_id for v in bench.node.members()}
    assert bench.node.counters["records_refused"] == 1


@pytest.mark.parametrize("size", [3, 10, 60])
def test_a_clean_leave_is_known_everywhere_within_half_a_second(size: int) -> None:
    cluster = Cluster(size, 7, Faults(loss=0.01))
    cluster.run(5)
    leaver = cluster.nodes[1]
    cluster.leave(leaver)
    others = [n for n in cluster.nodes if n is not leaver]
    took = cluster.network.run_until(
        lambda: all(leaver.node_id not in n.views for n in others), 3, 0.01
    )
    assert took is not None and took <= 0.5
    cluster.run(1)
    assert cluster.checkers.deaths == []
