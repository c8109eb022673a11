"""Splits over the simulated network: scenarios 3, 4 and 14, and the loss of each part."""

import pytest

from nodes.mesh.events import DropRequested
from nodes.mesh.ids import ModelName
from nodes.mesh.placement import ServingOptions
from tests.nodes.link_lab import overrule
from tests.sim.parts import Faults, SimNode
from tests.sim.serving_world import Box, World, lends, mesh_node

BIG = "Qwen2.5-32B"
FORCED = ServingOptions(force_split=True)
LOSSY = Faults(loss=0.05, delay_s=0.005, jitter_s=0.01, duplication=0.05, reordering=0.1)


def layout(world: World, name: str = BIG) -> dict[str, list[str]]:
    """Return host -> workers of every engine that is ready; a host alone has none."""
    names = {mesh_node(n).me.node_id: n.name for n in world.cluster.nodes}
    found = {}
    for host in world.hosts(name):
        node = next(n for n in world.cluster.nodes if n.name == host)
        run = mesh_node(node).serving.slots[ModelName(name)].run
        assert run is not None
        found[host] = [names.get(seat.node_id, "gone") for seat in run.seats[1:]]
    return found


def workers(world: World) -> list[str]:
    """Return who lends its memory now."""
    return sorted(n.name for n in world.cluster.nodes if lends(n) is not None)


def too_big(
    seed: int = 1, faults: Faults | None = None, nodes: int = 2
) -> tuple[World, list[SimNode]]:
    """Scenario 4: nodes of 12, 11, 10 ... GB, and a model that needs more than 18."""
    world = World(seed, faults)
    started = []
    for i in range(nodes):
        started.append(world.start(f"n{i:04d}", Box(12.0 - i, (BIG,), {BIG: 18})))
        world.run(1)
    return world, started


def test_scenario_3_forced_split_has_one_host_and_one_restart_on_the_join() -> None:
    world = World(1)
    a = world.start("n0000", Box(24, (BIG,), {BIG: 5}, options=FORCED))
    world.until(lambda: layout(world) == {"n0000": []}, 5)
    world.start("n0001", Box(12, (BIG,), {BIG: 5}))
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    world.run(30)
    assert layout(world) == {"n0000": ["n0001"]}
    assert world.engines.starts["n0000", BIG] == 2
    entry = mesh_node(a).shown["split"]
    assert entry["tensor_split"] == [0.67, 0.33]
    assert entry["rpc_entries"][0]["node_id"] == mesh_node(a).me.node_id
    assert sum(e["layers"] for e in entry["rpc_entries"]) == 6
    assert not world.engines.findings


def test_scenario_3_the_larger_node_hosts_though_it_came_later() -> None:
    world = World(2)
    world.start("n0000", Box(12, (BIG,), {BIG: 5}, options=FORCED))
    world.run(5)
    world.start("n0001", Box(24, (BIG,), {BIG: 5}))
    world.until(lambda: layout(world) == {"n0001": ["n0000"]}, 15)
    assert workers(world) == ["n0000"]


@pytest.mark.parametrize("seed", range(1, 6))
def test_scenario_4_waits_with_what_is_missing_and_starts_by_itself(seed: int) -> None:
    world = World(seed, LOSSY if seed > 1 else None)
    a = world.start("n0000", Box(12, (BIG,), {BIG: 18}))
    world.run(10)
    assert "Waiting for more peers - need 18" in mesh_node(a).shown[f"model/{BIG}"]["reason"]
    b = world.start("n0001", Box(10, (BIG,), {BIG: 18}))
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 12)
    assert mesh_node(a).shown["node"]["role"] == "host"
    assert mesh_node(b).shown["node"]["role"] == "worker"
    world.run(1)
    assert world.warm(b) == {BIG}
    (host,) = mesh_node(b).shown[f"model/{BIG}"]["hosts"]
    assert [(w["layers"], w["rtt_ms"] is not None) for w in host["workers"]] == [(3, True)]
    shown = mesh_node(b).shown
    assert 9.0 < shown["resources"]["used_bytes"] / 1e9 < 9.2
    assert 9.0 < shown[f"peer/{mesh_node(a).me.node_id}"]["used_gb"] < 9.2
    assert 9.0 < mesh_node(a).shown[f"peer/{mesh_node(b).me.node_id}"]["used_gb"] < 9.2
    assert not world.engines.findings


def test_scenario_4_a_node_without_the_file_lends_its_memory_too() -> None:
    world = World(3)
    world.start("n0000", Box(12, (BIG,), {BIG: 18}))
    world.start("n0001", Box(10))
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)


def test_newcomer_does_not_take_a_second_copy_while_memory_is_short() -> None:
    world = World(4)
    world.start("n0000", Box(4, ("small",), {"small": 2}))
    world.start("n0001", Box(12, (BIG,), {BIG: 18}))
    world.run(5)
    world.start("n0002", Box(10, disk={"small": 2}))
    world.until(lambda: layout(world) == {"n0001": ["n0002"]}, 15)


@pytest.mark.parametrize("silent", [False, True])
def test_scenario_14_alone_again_after_the_worker_was_killed(silent: bool) -> None:
    world = World(5)
    world.start("n0000", Box(24, (BIG,), {BIG: 5}, options=FORCED))
    b = world.start("n0001", Box(12, (BIG,), {BIG: 5}, options=FORCED))
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    world.network.kill(b, silent)
    took = world.until(lambda: layout(world) == {"n0000": []}, 15)
    assert took < (8 if silent else 3)
    world.start("n0001")
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 20)
    assert not world.engines.findings


def test_a_third_node_takes_the_place_of_a_lost_worker() -> None:
    world, nodes = too_big(6, nodes=3)
    world.until(lambda: len(layout(world)) == 1, 15)
    host, (worker,) = next(iter(layout(world).items()))
    world.network.kill(next(n for n in nodes if n.name == worker))
    rest = ({"n0000", "n0001", "n0002"} - {host, worker}).pop()
    world.until(lambda: layout(world) == {host: [rest]}, 10)
    world.run(60)
    assert not world.engines.findings


def test_worker_that_leaves_is_replaced_before_anybody_uses_it() -> None:
    world, nodes = too_big(7, nodes=3)
    world.until(lambda: len(layout(world)) == 1, 15)
    host, (worker,) = next(iter(layout(world).items()))
    world.stop(next(n for n in nodes if n.name == worker))
    rest = ({"n0000", "n0001", "n0002"} - {host, worker}).pop()
    world.until(lambda: layout(world) == {host: [rest]}, 6)


@pytest.mark.parametrize("silent", [False, True])
def test_the_next_one_hosts_when_the_host_was_killed(silent: bool) -> None:
    world, nodes = too_big(8, nodes=3)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]} or len(layout(world)) == 1, 15)
    host = next(iter(layout(world)))
    world.network.kill(next(n for n in nodes if n.name == host), silent)
    took = world.until(lambda: layout(world) and host not in layout(world), 20)
    assert took < 10
    world.run(30)
    assert len(layout(world)) == 1
    assert not world.engines.findings


def test_rpc_server_that_ended_is_noticed_though_the_engine_has_not() -> None:
    world, nodes = too_big(9)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    lent = lends(nodes[1])
    assert lent is not None
    world.engines.end_worker(nodes[1], lent.run_id)
    world.until(lambda: layout(world) == {}, 3)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 6)
    again = lends(nodes[1])
    assert again is not None
    assert again.term > lent.term
    assert world.engines.starts["n0000", BIG] == 2
    told = [e.kind for _, name, e in world.engines.told if name == "n0000"]
    planned = [i for i, kind in enumerate(told) if kind == "split_planned"]
    assert len(planned) == 2
    assert told[planned[1] + 1] != "still_host", "it restarts its engine"


def test_worker_that_is_lost_again_and_again_is_held_out_for_a_growing_time() -> None:
    world, nodes = too_big(10)
    gaps: list[float] = []
    for _ in range(4):
        world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 300)
        lent = lends(nodes[1])
        assert lent is not None
        world.engines.end_worker(nodes[1], lent.run_id)
        world.until(lambda: layout(world) == {}, 5)
        if len(gaps) == 1:
            world.run(2)
            reason = mesh_node(nodes[0]).shown[f"model/{BIG}"]["reason"]
            assert reason.endswith("(left out for a time after failures: n0001)"), reason
        gaps.append(world.until(lambda: bool(layout(world)), 300))
    assert gaps[0] < 6
    assert 25 < gaps[1] < 45 < gaps[2] < 80 < gaps[3] < 140
    assert not world.engines.findings


def test_engine_that_aborts_is_planned_anew_at_once() -> None:
    world, nodes = too_big(11)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    world.network.kill(nodes[1], True)
    world.run(0.1)
    world.engines.use(nodes[0], BIG)
    world.run(12)
    assert layout(world) == {}
    assert "Waiting for more peers" in mesh_node(nodes[0]).shown[f"model/{BIG}"]["reason"]
    world.start("n0001")
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 40)


def test_dropped_split_sends_its_worker_to_standby_and_its_host_home() -> None:
    world, nodes = too_big(12)
    other = world.start("n0002", Box(16, ("small",), {"small": 2}))
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    world.run(10)
    world.network.give(other, DropRequested(ModelName(BIG), leave_after=True))
    world.run(10)
    assert not nodes[0].alive
    assert nodes[1].alive
    assert mesh_node(nodes[1]).shown["node"]["role"] == "standby"
    assert workers(world) == []


def test_two_hosts_after_a_partition_become_one() -> None:
    world, nodes = too_big(13, nodes=4)
    world.until(lambda: len(layout(world)) == 1, 15)
    host, (worker,) = next(iter(layout(world).items()))
    side = [n for n in nodes if n.name in (host, worker)]
    rest = [n for n in nodes if n not in side]
    world.cluster.partition(side, rest)
    world.run(40)
    assert len(layout(world)) == 2
    world.cluster.heal()
    world.until(lambda: len(layout(world)) == 1 and len(workers(world)) == 1, 60)
    world.run(30)
    assert len(layout(world)) == 1
    assert not world.engines.findings


def test_regossip_joins_and_leaves_of_others_restart_nothing() -> None:
    world, _ = too_big(14)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    starts = dict(world.engines.starts)
    for i in range(2, 12):
        other = world.start(f"n{i:04d}", Box(30 if i % 2 else 9))
        world.run(4)
        if i % 3 == 0:
            world.network.kill(other)
    world.run(60)
    assert dict(world.engines.starts) == starts
    assert layout(world) == {"n0000": ["n0001"]}


def test_node_that_can_hold_it_alone_takes_over_and_the_split_ends_after_it_answers() -> None:
    world, _ = too_big(15)
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    world.start("n0002", Box(30, (BIG,), {BIG: 18}))
    world.until(lambda: "n0002" in layout(world), 10)
    world.until(lambda: layout(world) == {"n0002": []} and not workers(world), 20)
    assert not world.engines.findings


def test_worker_that_is_slow_for_long_is_left_out() -> None:
    world, nodes = too_big(16, nodes=3)
    world.until(lambda: len(layout(world)) == 1, 15)
    host, (worker,) = next(iter(layout(world).items()))
    slow = next(n for n in nodes if n.name == worker)
    rest = ({"n0000", "n0001", "n0002"} - {host, worker}).pop()
    splits = mesh_node(next(n for n in nodes if n.name == host)).duties._splits.host
    look = splits.look
    far = {slow.node_id: 700.0}
    overrule(splits, "look", lambda m, w, rtts, now: look(m, w, {**rtts, **far}, now))
    world.run(20)
    assert layout(world) == {host: [worker]}
    world.until(lambda: layout(world) == {host: [rest]}, 60)
    assert "slow to answer for 30 s" in world.texts(host, "split_lost")[0]


def test_workers_of_a_dropped_split_stay_until_its_open_answers_are_through() -> None:
    world, nodes = too_big(17)
    other = world.start("n0002", Box(16, ("small",), {"small": 2}))
    world.until(lambda: layout(world) == {"n0000": ["n0001"]}, 15)
    world.run(10)
    world.engines.end_s = 20.0  # Somebody reads a long answer.
    world.network.give(other, DropRequested(ModelName(BIG), leave_after=True))
    world.run(15)
    assert world.warm(other) == {"small"}
    assert workers(world) == ["n0001"]
    world.run(10)
    assert workers(world) == []
    assert not nodes[0].alive
    assert nodes[1].alive


def test_worker_that_is_stopped_goes_once_the_open_answers_of_its_host_are_through() -> None:
    world, nodes = too_big(18, nodes=3)
    world.until(lambda: len(layout(world)) == 1, 15)
    host, (worker,) = next(iter(layout(world).items()))
    rest = ({"n0000", "n0001", "n0002"} - {host, worker}).pop()
    world.engines.end_s = 8.0  # Somebody reads a long answer.
    goes = next(n for n in nodes if n.name == worker)
    world.stop(goes)
    world.run(7)
    assert workers(world) == [worker]
    world.engines.end_s = 0.05
    world.until(lambda: layout(world) == {host: [rest]}, 10)
    world.run(2)
    assert not goes.alive
    assert not world.engines.findings


def test_of_two_models_too_big_for_their_nodes_one_is_served_rather_than_neither() -> None:
    world = World(19)
    a = world.start("n0000", Box(12, ("one",), {"one": 18}))
    b = world.start("n0001", Box(11, ("other",), {"other": 18}))
    world.until(lambda: layout(world, "one") == {"n0000": ["n0001"]}, 15)
    world.run(60)
    assert layout(world, "one") == {"n0000": ["n0001"]}
    assert layout(world, "other") == {}
    assert world.engines.starts == {("n0000", "one"): 1}
    reason = mesh_node(b).shown["model/other"]["reason"]
    assert reason == "this node lends its memory to a split of n0000"
    world.network.kill(a)
    world.run(10)
    assert "Waiting for more peers" in mesh_node(b).shown["model/other"]["reason"]
    world.start("n0002", Box(14))
    world.until(lambda: layout(world, "other") == {"n0001": ["n0002"]}, 15)
