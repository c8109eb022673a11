"""A node of a mesh is drained from another one: its models move, it stays, and a restart ends it."""

import pytest

from nodes.mesh.events import DrainRequested
from nodes.mesh.ids import NodeId
from tests.sim.identities import node_id_of
from tests.sim.parts import Faults
from tests.sim.serving_world import Box, World, mesh_node
from tests.sim.test_split_scenarios import layout, too_big, workers

MODEL = "GLM-4.7-Flash-Q4_K_M"
LOSSY = Faults(loss=0.05, delay_s=0.005, jitter_s=0.01, duplication=0.05, reordering=0.1)


def _world(seed: int = 1, faults: Faults | None = None) -> World:
    """A seeder without the model, its host, and a third that is too small for it."""
    world = World(seed, faults)
    world.start("n0000", Box(disk={}))
    world.start("n0001", Box(own=(MODEL,), disk={MODEL: 9}))
    world.until(lambda: world.hosts(MODEL) == ["n0001"], 10)
    world.start("n0002", Box(4, disk={MODEL: 9}))
    world.run(5)
    return world


def _drain(world: World, subject: str, drained: bool = True) -> None:
    asked = DrainRequested(NodeId(node_id_of(subject)), drained)
    world.network.give(world.cluster.node("n0000"), asked)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_drain_is_obeyed_by_its_subject_alone_and_seen_by_all(seed: int) -> None:
    world = _world(seed, LOSSY)
    _drain(world, "n0001")
    cold = world.until(lambda: all(MODEL not in world.warm(n) for n in world.cluster.nodes), 3)
    assert cold <= 3
    world.run(10)
    subject = world.cluster.node("n0001")
    assert not subject.left
    for node in world.cluster.nodes:
        if node is subject:
            continue
        view = mesh_node(node).members.get(NodeId(node_id_of("n0001")))
        assert view is not None
        assert (view.announcement.role, view.announcement.memory_bytes) == ("drained", 0)
        assert not mesh_node(node).serving.drained
        assert world.texts(node.name, "drain_asked") == [
            "n0001 is to be drained: an operator asked for it."
        ]
    assert world.hosts(MODEL, ready=False) == []
    world.engines.allow(subject, MODEL)
    _drain(world, "n0001", drained=False)
    world.until(lambda: world.hosts(MODEL) == ["n0001"], 10)
    assert world.engines.findings == []


def test_the_model_of_a_drained_node_goes_to_a_standby_that_has_its_file() -> None:
    world = World(1)
    world.start("n0000", Box(disk={}))
    world.start("n0001", Box(own=(MODEL,), disk={MODEL: 9}))
    world.until(lambda: world.hosts(MODEL) == ["n0001"], 10)
    world.start("n0002", Box(own=("Qwen2.5-3B",), disk={"Qwen2.5-3B": 2}))
    world.start("n0003", Box(disk={}))
    world.run(6)
    world.scan(world.cluster.node("n0003"), {MODEL: 9})
    world.run(5)
    _drain(world, "n0001")
    world.until(lambda: world.hosts(MODEL) == ["n0003"], 10)
    world.run(5)
    assert all(MODEL in world.warm(n) for n in world.cluster.nodes)


def test_a_word_about_an_earlier_life_does_not_drain_a_node_that_was_started_again() -> None:
    world = _world()
    _drain(world, "n0001")
    world.until(lambda: world.hosts(MODEL) == [], 3)
    world.run(3)
    world.network.kill(world.cluster.node("n0001"))
    world.run(10)
    world.start("n0001")
    world.until(lambda: world.hosts(MODEL) == ["n0001"], 15)
    world.run(20)
    assert world.hosts(MODEL) == ["n0001"], "the old word went round and changed nothing"


@pytest.mark.parametrize("subject", ["n0000", "n0001"])
def test_no_part_of_a_split_stays_on_a_drained_node(subject: str) -> None:
    world, _ = too_big(nodes=3)
    world.until(lambda: len(layout(world)) == 1, 20)
    asked = DrainRequested(NodeId(node_id_of(subject)), True)
    world.network.give(world.cluster.node("n0002"), asked)
    world.until(lambda: subject not in {*layout(world), *workers(world)}, 20)
    world.run(10)
    assert subject not in {*layout(world), *workers(world)}
    assert layout(world), "the other two are enough, and share it"
    assert subject not in layout(world)[next(iter(layout(world)))]
