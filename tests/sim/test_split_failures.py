"""Engines over a split that end by errors of their own, over the simulated network."""

from dataclasses import replace

from nodes.mesh.events import DropRequested, ServerExited
from nodes.mesh.ids import ModelName
from nodes.mesh.reconcile import RESTARTS_MAX
from tests.sim.parts import SimNode
from tests.sim.serving_world import Box, World, lends, mesh_node
from tests.sim.test_split_scenarios import BIG, layout, too_big, workers


def fail(world: World, host: SimNode) -> None:
    """Let a host's engine over its split end by an error of its own, until it gives the model up."""
    serving = mesh_node(host).serving
    for _ in range(RESTARTS_MAX + 1):
        world.until(lambda: host.name in world.hosts(BIG, ready=False), 90)
        run = serving.slots[ModelName(BIG)].run
        assert run is not None
        bad = ServerExited(run.plan.run_id, 1, "It cannot read the model.", False)
        world.network.give(host, bad)
    world.run(1)
    assert serving.slots[ModelName(BIG)].gave_up


def test_host_that_gives_the_model_up_lends_itself_to_the_next_one() -> None:
    world, nodes = too_big(20)
    fail(world, nodes[0])
    world.until(lambda: layout(world) == {"n0001": ["n0000"]}, 60)
    world.run(60)
    assert layout(world) == {"n0001": ["n0000"]}


def test_workers_are_free_again_once_nobody_is_left_to_host_the_model() -> None:
    world = World(21)
    a = world.start("n0000", Box(12, (BIG,), {BIG: 18}))
    b = world.start("n0001", Box(10))
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    fail(world, a)
    world.run(60)
    assert workers(world) == []
    assert mesh_node(b).shown["node"]["role"] == "standby"
    said = mesh_node(a).why(ModelName(BIG), world.network.now)
    assert f"{BIG} failed on every node that could host a split of it" in str(said)
    world.want(a, BIG)  # Its operator asks for a fresh try.
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 60)


def test_engine_that_breaks_while_its_dropped_model_runs_out_is_not_planned_anew() -> None:
    world, (a, _) = too_big(22)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    world.engines.end_s = 20.0  # Somebody reads a long answer.
    name, node = ModelName(BIG), mesh_node(a)
    world.network.give(a, DropRequested(name, leave_after=False))
    run = node.serving.slots[name].run
    assert run is not None
    world.network.give(a, ServerExited(run.plan.run_id, -6, "it lost its split.", False))
    assert node.serving.directives == {}
    assert "planned anew" not in str(node.why(name, world.network.now))
    world.run(1)
    assert workers(world) == []


def test_host_that_comes_back_with_its_clock_set_back_is_obeyed_again() -> None:
    world, (a, b) = too_big(23)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    lent = lends(b)
    assert lent is not None
    world.network.kill(a)
    world.until(lambda: not workers(world), 15)
    again = world.start("n0000")
    me = mesh_node(again).me
    mesh_node(again).me = replace(me, started_at=me.started_at - 86_400)
    mesh_node(again)._clock_offset_s = None
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 20)
    newer = lends(b)
    assert newer is not None
    assert newer.term < lent.term
