"""Splits that are planned again: terms, waits and workers that were judged too early."""

import pytest

from nodes.mesh.events import ServerExited
from nodes.mesh.ids import ModelName
from nodes.mesh.placement import ServingOptions
from tests.sim.parts import Faults
from tests.sim.serving_world import Box, World, lends, mesh_node
from tests.sim.test_split_scenarios import BIG, FORCED, layout, too_big, workers


@pytest.mark.parametrize("forced", [True, False])
def test_worker_that_answered_slowly_at_first_is_taken_once_it_is_near(forced: bool) -> None:
    # A machine that has just started something else answers its first probes late.
    world = World(17, Faults(delay_s=0.06))
    size, options = (5, FORCED) if forced else (18, ServingOptions())
    world.start("n0000", Box(12, (BIG,), {BIG: size}, options=options))
    world.start("n0001", Box(10, (BIG,), {BIG: size}, options=options))
    world.run(8)
    assert workers(world) == []
    world.network.faults = Faults(delay_s=0.002)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 12)
    assert not world.engines.findings


@pytest.mark.parametrize("offset_s", [0.0, 0.25, 0.5, 0.75])
def test_part_lost_in_the_second_of_its_plan_gets_orders_of_a_newer_term(offset_s: float) -> None:
    # Terms begin at the wall clock's second: the next one must not be the same number again.
    world = World(18)
    world.start("n0000", Box(12, (BIG,), {BIG: 18}))
    world.run(1 + offset_s)
    b = world.start("n0001", Box(10, (BIG,), {BIG: 18}))
    world.until(lambda: lends(b) is not None, 15)
    world.run(0.2)
    lent = lends(b)
    assert lent is not None
    world.engines.end_worker(b, lent.run_id)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 8)
    again = lends(b)
    assert again is not None
    assert again.term > lent.term


def test_engine_that_aborts_again_and_again_says_when_it_is_planned_anew() -> None:
    world, nodes = too_big(19)
    for _ in range(3):
        world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 20)
        run = mesh_node(nodes[0]).serving.slots[ModelName(BIG)].run
        assert run is not None
        world.network.give(nodes[0], ServerExited(run.plan.run_id, -6, "it aborted", False))
    told = [e.text for _, _, e in world.engines.told if e.kind == "split_lost"]
    assert told == [
        "it aborted. It is planned anew.",
        "it aborted. It is planned anew in 1 s, since it ended again and again.",
        "it aborted. It is planned anew in 2 s, since it ended again and again.",
    ]
