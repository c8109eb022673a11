"""Scenarios of many models behind one API, over the simulated network with fake engines."""

import pytest

from nodes.mesh.events import DropRequested, ServerLoadSampled
from nodes.mesh.ids import ModelName
from tests.sim.parts import Faults
from tests.sim.serving_world import Box, World, mesh_node

SMALL, GLM, BIG = "Qwen2.5-3B", "GLM-4.7-Flash-Q4_K_M", "Qwen2.5-32B"
LOSSY = Faults(loss=0.05, delay_s=0.005, jitter_s=0.01, duplication=0.05, reordering=0.1)


def two_models(seed: int = 1, faults: Faults | None = None) -> World:
    """Scenarios 6 and 7: a seeder with two models, a joiner with none."""
    world = World(seed, faults)
    world.start("n0000", Box(own=(SMALL, "GLM-4.7-Flash"), disk={SMALL: 2, GLM: 9}))
    world.run(3)
    world.start("n0001", Box(disk={SMALL: 2, GLM: 9}))
    return world


def test_scenario_2_both_nodes_run_solo_and_the_host_restarts_nothing() -> None:
    world = World(1)
    a = world.start("n0000", Box(24, (BIG,), {BIG: 18}))
    world.until(lambda: world.hosts(BIG) == ["n0000"], 5)
    b = world.start("n0001", Box(20.5, (BIG,), {BIG: 18}))
    world.until(lambda: world.hosts(BIG) == ["n0000", "n0001"], 10)
    world.run(10)
    assert world.engines.starts == {("n0000", BIG): 1, ("n0001", BIG): 1}
    assert world.texts("n0000", "still_host") == [f"{BIG}: still host, no restart needed"]
    told = [(t, e.kind) for t, n, e in world.engines.told if n == "n0000"]
    joined = next(t for t, kind in told if kind == "joined")
    assert next(t for t, kind in told if kind == "still_host") >= joined + 2.0
    for node in (a, b):
        assert len(mesh_node(node).routes.ready()) == 2


@pytest.mark.parametrize("seed", range(1, 6))
def test_scenarios_6_and_7_joiner_is_assigned_what_is_needed_and_on_its_disk(seed: int) -> None:
    world = two_models(seed, LOSSY if seed > 1 else None)
    took = world.until(lambda: world.hosts(GLM) == ["n0001"], 10)
    assert took < 5
    assert world.texts("n0001", "assigned") == [
        f"Assigned to serve {GLM} (needed by mesh, already on disk)"
    ]
    world.run(5)
    for node in world.cluster.nodes:
        assert world.warm(node) == {SMALL, GLM}
    assert world.engines.starts == {("n0000", SMALL): 1, ("n0001", GLM): 1}


def test_scenario_7_model_that_nobody_has_is_downloaded_by_one_that_it_fits() -> None:
    world = World(1)
    world.start("n0000", Box(4, own=(SMALL, GLM), disk={SMALL: 2}, catalogue={GLM: 9}))
    world.start("n0001", Box(8, catalogue={GLM: 9}))
    world.start("n0002", Box(16, catalogue={GLM: 9}))
    world.until(lambda: world.hosts(GLM) == ["n0002"], 15)
    assert "to be downloaded" in world.texts("n0002", "assigned")[0]


def test_broken_file_falls_to_the_next_in_order_within_five_seconds() -> None:
    world = World(1)
    world.start("n0000", Box(own=(SMALL, GLM), disk={SMALL: 2}))
    world.run(3)
    for i in range(1, 4):
        world.start(f"n{i:04d}", Box(disk={GLM: 9}, broken=frozenset({GLM} if i < 3 else ())))
    world.until(lambda: world.hosts(GLM) == ["n0003"], 15)


def test_joiners_spread_over_what_is_needed_and_then_over_what_is_least_served() -> None:
    world = World(3)
    disk = {"A": 2.0, "B": 2.0, "C": 2.0}
    world.start("n0000", Box(own=(SMALL, "A", "B", "C"), disk={SMALL: 2}))
    world.run(3)
    for i in range(1, 7):
        world.start(f"n{i:04d}", Box(disk=disk))
    world.run(20)
    assert [len(world.hosts(name)) for name in "ABC"] == [2, 2, 2]
    assert sum(world.engines.starts.values()) == 7


def test_scenario_9_drop_from_any_node_ends_the_serving_one_and_no_standby_brings_it_back() -> None:
    world = two_models()
    world.start("n0002", Box(4, disk={GLM: 9}))
    world.until(lambda: world.hosts(GLM) == ["n0001"], 10)
    world.start("n0003", Box(own=(SMALL,), disk={SMALL: 2, GLM: 9}))
    world.run(5)
    server, dropper = world.cluster.node("n0001"), world.cluster.node("n0003")
    world.network.give(dropper, DropRequested(ModelName(GLM), leave_after=True))
    cold = world.until(lambda: all(GLM not in world.warm(n) for n in world.cluster.nodes), 3)
    assert cold <= 1.0
    world.until(lambda: server.left, 35)
    late = world.start("n0004", Box(disk={GLM: 9}))
    world.run(30)
    assert world.hosts(GLM, ready=False) == []
    assert not dropper.left
    assert mesh_node(late).duties.tombstones.is_dropped(ModelName(GLM))
    assert world.hosts(SMALL) == ["n0000", "n0003"]


def test_scenario_9_drop_said_soon_after_a_host_joined_is_obeyed_by_it() -> None:
    world = World(1)
    world.start("n0000", Box(own=(SMALL,), disk={SMALL: 2}))
    world.run(3)
    host = world.start("n0001", Box(own=(GLM,), disk={GLM: 9}))
    world.until(lambda: world.hosts(GLM) == ["n0001"], 5)
    world.run(2)
    seeder = world.cluster.node("n0000")
    world.network.give(seeder, DropRequested(ModelName(GLM), leave_after=True))
    assert world.until(lambda: GLM not in world.warm(seeder), 3) <= 1.0
    world.until(lambda: host.left, 35)


def test_scenario_9_load_lifts_the_drop() -> None:
    world = two_models()
    world.until(lambda: world.hosts(GLM) == ["n0001"], 10)
    seeder = world.cluster.node("n0000")
    world.network.give(seeder, DropRequested(ModelName(GLM), leave_after=True))
    world.until(lambda: world.cluster.node("n0001").left, 35)
    fresh = world.start("n0002", Box(own=(GLM,), disk={GLM: 9}))
    world.run(10)
    assert world.hosts(GLM) == ["n0002"]
    for node in (seeder, fresh):
        assert not mesh_node(node).duties.tombstones.is_dropped(ModelName(GLM))
        assert GLM in world.warm(node)


def test_scenario_11_standby_takes_over_when_the_last_host_dies() -> None:
    world = World(1)
    world.start("n0000", Box(own=(SMALL,), disk={SMALL: 2}))
    host = world.start("n0001", Box(own=(GLM,), disk={GLM: 9}))
    for i in range(2, 6):
        world.start(f"n{i:04d}", Box(disk={}))
    world.run(6)
    for i in range(2, 6):
        world.scan(world.cluster.node(f"n{i:04d}"), {GLM: 9})
    world.run(10)
    assert world.hosts(GLM) == ["n0001"]
    world.network.kill(host)
    world.until(lambda: GLM not in world.warm(world.cluster.node("n0000")), 6)
    dead_s = world.network.now
    world.until(lambda: bool(world.hosts(GLM, ready=False)), 6)
    assert world.network.now - dead_s <= 5
    world.run(20)
    assert len(world.hosts(GLM)) == 1
    assert sum(count for (_, name), count in world.engines.starts.items() if name == GLM) == 2


def test_scenario_12_restarted_node_is_back_and_its_model_warm() -> None:
    world = two_models()
    world.until(lambda: world.hosts(GLM) == ["n0001"], 10)
    world.network.kill(world.cluster.node("n0001"))
    world.run(8)
    seeder = world.cluster.node("n0000")
    assert world.warm(seeder) == {SMALL}
    world.start("n0001", Box(own=(GLM,), disk={GLM: 9}))
    world.until(lambda: world.hosts(GLM) == ["n0001"], 5)
    world.until(lambda: world.warm(seeder) == {SMALL, GLM}, 5)


def test_scenario_13_joins_leaves_and_an_hour_of_heartbeats_start_no_engine_again() -> None:
    world = World(5, LOSSY)
    world.start("n0000", Box(own=(SMALL,), disk={SMALL: 2}))
    world.start("n0001", Box(own=(GLM,), disk={GLM: 9}))
    for round_number in range(6):
        guest = world.start(f"n{round_number + 2:04d}", Box(own=("other",), disk={"other": 2}))
        world.run(30)
        world.stop(guest)
        world.run(20)
    assert world.engines.starts["n0000", SMALL] == 1
    assert world.engines.starts["n0001", GLM] == 1
    assert world.engines.findings == []
    assert len(world.texts("n0000", "still_host")) >= 6


def test_too_big_waits_for_peers_and_says_what_they_have_together() -> None:
    world = World(1)
    world.start("n0000", Box(8, own=(BIG,), disk={BIG: 40}))
    world.run(3)
    assert world.hosts(BIG, ready=False) == []
    world.start("n0001", Box(8, own=(BIG,), disk={BIG: 40}))
    world.run(10)
    text = mesh_node(world.cluster.node("n0001")).shown[f"model/{BIG}"]["reason"]
    assert text.startswith("Waiting for more peers - need 40.")


def test_node_that_cannot_hold_it_leaves_it_to_the_one_that_can() -> None:
    world = World(1)
    small = world.start("n0000", Box(8, own=(BIG,), disk={BIG: 18}))
    world.run(3)
    world.start("n0001", Box(24, disk={BIG: 18}))
    world.until(lambda: world.hosts(BIG) == ["n0001"], 10)
    world.run(5)
    reason = mesh_node(small).shown[f"model/{BIG}"]["reason"]
    assert reason == "Left to n0001: this node needs 18.1 GB, offers 8.0 GB"
    assert BIG in world.warm(small)


def busy(world: World, node_name: str, name: str, in_flight: int, per_s: float) -> None:
    """Let an engine of this node tell that it has so much to do."""
    sample = ServerLoadSampled(ModelName(name), in_flight, 0, 0, per_s, 0.0, None)
    world.network.give(world.cluster.node(node_name), sample)


def test_hot_model_gets_one_helper_and_a_cold_one_gives_it_back() -> None:
    world = World(1)
    world.start("n0000", Box(own=(SMALL,), disk={SMALL: 2}))
    for i in range(1, 4):
        world.start(f"n{i:04d}", Box())
    world.run(6)
    for i in range(1, 4):
        world.scan(world.cluster.node(f"n{i:04d}"), {SMALL: 2})
    world.run(10)
    assert world.hosts(SMALL) == ["n0000"]
    busy(world, "n0000", SMALL, 4, 3.0)
    world.until(lambda: len(world.hosts(SMALL)) == 2, 90)
    (helper,) = set(world.hosts(SMALL)) - {"n0000"}
    assert world.texts(helper, "assigned")[0].startswith(f"Assigned to serve {SMALL} (busy: ")
    for name in ("n0000", helper):
        busy(world, name, SMALL, 2, 1.5)
    world.run(300)
    assert len(world.hosts(SMALL)) == 2
    for name in ("n0000", helper):
        busy(world, name, SMALL, 0, 0.0)
    world.until(lambda: world.hosts(SMALL) == ["n0000"], 400)
    assert not world.cluster.node(helper).left
    assert sum(world.engines.starts.values()) == 2


def test_a_stop_is_known_everywhere_at_once_while_the_engine_still_ends() -> None:
    world = World(3)
    stays = world.start("n0000", Box(own=(SMALL,), disk={SMALL: 2}))
    stops = world.start("n0001", Box(own=(GLM,), disk={GLM: 9}))
    world.until(lambda: world.warm(stays) == {SMALL, GLM}, 20)
    world.engines.end_s = 3.0
    world.stop(stops)
    took = world.until(lambda: stops.node_id not in stays.views, 5)
    assert took <= 0.1
    assert world.warm(stays) == {SMALL}
    assert stops.alive, "its engine still ends"
    assert 2.5 <= world.until(lambda: not stops.alive, 5) <= 3.5
    assert world.cluster.checkers.deaths == []
