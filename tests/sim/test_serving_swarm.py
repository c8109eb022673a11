"""Random meshes that serve, with random faults: nothing started for no reason, nothing served twice for one
need, nothing left lying. And the checks are worth something: they find each bug that is put in."""

from collections.abc import Iterator

import pytest

from nodes.mesh import standby
from nodes.mesh.assignment import takes
from nodes.mesh.effects import Effect, RecordEvent
from nodes.mesh.offers import MeshSnapshot
from nodes.mesh.reelection import Reelection
from nodes.mesh.settle import SETTLE_S
from nodes.mesh.standby import Outcome, Standby, TakeUp
from tests.sim.parts import Faults
from tests.sim.serving_swarm import ServingSwarm
from tests.sim.serving_world import Box, World, mesh_node


@pytest.mark.parametrize("seed", range(1, 9))
def test_serving_swarm_of_seeds_finds_nothing(seed: int) -> None:
    swarm = ServingSwarm(seed)
    assert swarm.run() == [], swarm.report()


def _greedy(self: Standby, snapshot: MeshSnapshot, now: float) -> tuple[Outcome | None, float]:
    """Bug: every standby takes the first thing lying about, and never gives way."""
    found = (takes(snapshot, wish, snapshot.own) for wish in snapshot.unserved)
    taken = next((a for a in found if a is not None), None)
    return (TakeUp(taken) if taken and snapshot.own.free else None), SETTLE_S


@pytest.mark.slow
def test_standbys_that_all_take_the_same_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby.Standby, "outcome", _greedy)
    runs = (ServingSwarm(seed).run() for seed in range(1, 11))
    assert any("for one need" in finding for findings in runs for finding in findings)


@pytest.mark.slow
def test_restart_at_every_reelection_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Reelection._take

    def restless(self: Reelection, *shown: object) -> Iterator[Effect]:
        """Bug 4 of the original: the host restarts its engine whenever an election was held."""
        for effect in sound(self, *shown):  # type: ignore[arg-type]
            yield effect
            if isinstance(effect, RecordEvent) and effect.kind == "still_host":
                for name in self._serving.slots:
                    yield from self._serving._stop_run(name)

    monkeypatch.setattr(Reelection, "_take", restless)
    runs = (ServingSwarm(seed).run() for seed in range(1, 4))
    assert any("for no reason" in finding for findings in runs for finding in findings)


@pytest.mark.slow
def test_model_left_lying_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Standby, "outcome", lambda *_: (None, SETTLE_S))
    runs = (ServingSwarm(seed).run() for seed in range(1, 11))
    assert any("lying" in finding for findings in runs for finding in findings)


@pytest.mark.slow
def test_a_hundred_nodes_settle_and_one_standby_takes_over() -> None:
    world = World(1, Faults(loss=0.01), quiet=True)
    for i in range(100):
        own = "solo" if i == 0 else f"M{i % 20}"
        box = Box(own=(own,), disk={own: 2}) if i == 0 or i % 10 else Box()
        world.start(f"n{i:04d}", box, join=False)
    world.cluster._warm()
    world.run(10)
    for i in range(10, 100, 10):
        world.scan(world.cluster.node(f"n{i:04d}"), {"solo": 9})
    world.run(5)
    world.network.kill(world.cluster.node("n0000"))
    world.until(lambda: bool(world.hosts("solo")), 15)
    world.run(10)
    assert len(world.hosts("solo")) == 1
    assert sum(world.engines.starts.values()) == 92
    assert world.engines.findings == []
    assert all(mesh_node(n).duties.deadline is None for n in world.cluster.nodes)
