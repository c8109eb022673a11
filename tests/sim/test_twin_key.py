"""Two running processes with one key: named on both, bounded in what they cost, and mended when one goes."""

import pytest

from nodes.mesh.gossip_effects import ReportTwin
from nodes.mesh.gossip_events import Contact, JoinRequested, LeaveRequested
from tests.nodes.mesh.gossip_facts import Bench, record
from tests.sim.cluster import Cluster
from tests.sim.parts import SimNode


def _with_twin(seed: int = 1, size: int = 4) -> tuple[Cluster, SimNode, SimNode]:
    cluster = Cluster(size, seed, warm=False)
    cluster.run(10)
    first = cluster.nodes[1]
    second = cluster.start(first.name, port=7843)
    named = cluster.nodes[0]
    cluster.network.give(
        second, JoinRequested((Contact(named.node_id, (named.address,)),))
    )  # fmt: skip
    return cluster, first, second


def _claims(process: SimNode) -> int:
    return process.gossip.record.claim.incarnation


def test_both_processes_of_one_key_are_told_within_seconds_and_once() -> None:
    cluster, first, second = _with_twin()
    cluster.run(10)
    assert first.twin and second.twin
    cluster.run(120)
    for process in (first, second):
        told = [line for line in process.story if "twin_key" in line]
        assert len(told) == 1
        assert "stop one of them" in told[0] and process.node_id[:16] in told[0]


def test_the_others_keep_running_and_bury_nobody() -> None:
    cluster, first, _ = _with_twin()
    cluster.run(120)
    others = [n for n in cluster.nodes if n.node_id != first.node_id]
    assert not any(n.twin for n in others)
    assert not [d for d in cluster.checkers.deaths if d[2] != first.node_id]


@pytest.mark.slow
def test_two_processes_of_one_key_do_not_outbid_each_other_without_end() -> None:
    cluster, first, second = _with_twin()
    cluster.run(60)
    bids = len(first.claimed | second.claimed)
    assert bids < 40
    cluster.run(600)
    # At most a few bids each a minute, once the wait has grown to a minute.
    assert len(first.claimed | second.claimed) - bids < 100


def test_when_one_of_the_two_is_killed_the_other_stands_in_every_table_again() -> None:
    for stopped in (0, 1):
        cluster, *twins = _with_twin(seed=2)
        cluster.run(30)
        cluster.network.kill(twins[stopped])
        rest = twins[1 - stopped]
        # The simulator knows nodes by id: from here on the one that is left is the node.
        cluster.network.nodes[rest.node_id] = rest
        assert cluster.network.run_until(cluster.converged, 150) is not None


def test_when_one_of_the_two_leaves_it_does_not_take_the_other_along() -> None:
    for leaving in (0, 1):
        cluster, *twins = _with_twin(seed=3)
        cluster.run(30)
        cluster.network.give(twins[leaving], LeaveRequested())
        rest = twins[1 - leaving]
        cluster.network.nodes[rest.node_id] = rest
        assert cluster.network.run_until(cluster.converged, 150) is not None


def test_a_plain_restart_is_no_twin() -> None:
    cluster = Cluster(4, 4, warm=False)
    cluster.run(10)
    victim = cluster.nodes[1]
    for clock_error_s in (0.0, -3600.0):
        cluster.network.kill(victim)
        cluster.run(0.3)
        victim = cluster.restart(victim.name, 0.0, clock_error_s)
        cluster.run(30)
        assert not victim.twin and cluster.converged()


def test_stale_words_of_a_former_life_that_was_refuted_are_no_twin() -> None:
    bench = Bench()
    lives = [record("n0000", 2_000_000 + i, 0, life=7) for i in (0, 2)]
    told = [bench.hear_record(stale) for stale in lives]
    assert bench.node.record.claim.incarnation == 2_000_003
    assert not [e for effects in told for e in effects if isinstance(e, ReportTwin)]
