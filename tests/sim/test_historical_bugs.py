"""The simulator finds each of the original's four bugs when it is put back, and nothing without it."""

import msgspec
import pytest

from nodes.mesh.gossip_events import AnnouncementChanged
from tests.sim import planted
from tests.sim.cluster import Cluster, Plant
from tests.sim.parts import Faults
from tests.sim.swarm import Swarm


def _found(findings: list[str], word: str) -> bool:
    return any(word in finding for finding in findings)


def test_dead_peer_readded_by_gossip_is_found_by_the_swarm() -> None:
    runs = (Swarm(seed, planted.gossip_readds_the_dead).run() for seed in range(1, 31))
    assert any(_found(findings, "ghost") for findings in runs)


def _restart_before_the_old_link_ends(plant: Plant | None) -> list[str]:
    cluster = Cluster(3, 2, plant=plant)
    cluster.run(10)
    name = cluster.nodes[1].name
    cluster.network.kill(cluster.nodes[1])
    cluster.run(0.15)
    cluster.restart(name)
    cluster.run(40)
    return cluster.checkers.settle()


def test_stale_end_that_removes_its_replacement_is_found() -> None:
    assert _restart_before_the_old_link_ends(planted.stale_end_removes_replacement)
    assert _restart_before_the_old_link_ends(None) == []


def _observer_stalls(plant: Plant | None, seed: int) -> list[str]:
    cluster = Cluster(5, seed, Faults(loss=0.3), plant=plant)
    for _ in range(80):
        cluster.network.pause(cluster.nodes[0], 2.0)
        cluster.run(6)
    return cluster.checkers.findings


@pytest.mark.slow
def test_death_by_a_stalled_observer_is_found() -> None:
    runs = (_observer_stalls(planted.stalled_observer_kills, seed) for seed in range(1, 11))
    assert any(_found(findings, "false death") for findings in runs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_healthy_observer_that_stalls_kills_nobody(seed: int) -> None:
    assert _observer_stalls(None, seed) == []


def _regossip(engine_bug: bool) -> list[str]:
    cluster = Cluster(4, 2, engine_bug=engine_bug)
    cluster.run(10)
    node = cluster.nodes[1]
    old = node.gossip.record.body.announcement
    changed = msgspec.structs.replace(old, software="0.1.1")
    cluster.network.give(node, AnnouncementChanged(changed))
    cluster.run(10)
    return cluster.checkers.findings


def test_regossip_that_restarts_engines_is_found() -> None:
    assert _found(_regossip(engine_bug=True), "restart storm")
    assert _regossip(engine_bug=False) == []
