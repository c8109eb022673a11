"""What viewers see of the mesh's models: who computes a split, and what a cold one would need."""

from typing import Any

from nodes.mesh.announcement import (
    Announcement,
    ModelOnDiskLine,
    RttLine,
    ServedModelLine,
    SplitLine,
    SplitWorkerLine,
)
from nodes.mesh.events import DropRequested
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.members import Members
from nodes.mesh.models_view import complete
from nodes.mesh.own_facts import OwnFacts
from nodes.mesh.snapshot import State
from tests.nodes.mesh.facts import ME, ready, serving_node
from tests.sim.serving_world import Box, World, mesh_node

BIG = "Qwen2.5-32B"
HOST, NEAR, FAR = (NodeId(f"{n:02x}" * 32) for n in (1, 2, 3))


def _workers(state: State, name: str) -> list[dict[str, Any]]:
    (host,) = state[f"model/{name}"]["hosts"]
    found: list[dict[str, Any]] = host.get("workers", [])
    return found


def test_the_workers_of_another_nodes_split_are_named_with_share_and_round_trip() -> None:
    said = Announcement(
        name="barn",
        role="host",
        serving=(ServedModelLine(BIG, "ready", 4, 4096),),
        on_disk=(ModelOnDiskLine(BIG, 10**9, "f", 1, layers=64),),
        rtts=(RttLine(bytes.fromhex(NEAR), 0.7),),
        splits=(
            SplitLine(
                BIG,
                3,
                (
                    SplitWorkerLine(bytes.fromhex(NEAR), 16),
                    SplitWorkerLine(bytes.fromhex(FAR), 8),
                ),
            ),
        ),
    )
    members = Members()
    members.take([MemberView(HOST, MemberState.ALIVE, False, 1, 1, said, None)], 1.0)
    state: State = {}
    complete(state, ME.node_id, OwnFacts(), members)
    assert _workers(state, BIG) == [
        {"node_id": NEAR, "layers": 16, "share": 0.25, "via": None, "rtt_ms": 0.7},
        {"node_id": FAR, "layers": 8, "share": 0.125, "via": None, "rtt_ms": None},
    ]


def test_the_workers_of_this_nodes_split_are_those_of_its_split_entry() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    state = dict(node.shown)
    near = {"node_id": NEAR, "via": "lane", "share": 0.4, "layers": 3, "rtt_ms": 0.5}
    mine = {"node_id": ME.node_id, "via": "local", "share": 0.6, "layers": 3}
    state["split"] = {"model": "tiny", "rpc_entries": [mine, near], "tensor_split": [0.6, 0.4]}
    complete(state, ME.node_id, OwnFacts(), Members())
    assert _workers(state, "tiny") == [near]
    complete(state, ME.node_id, OwnFacts(), Members())
    state["split"] = {"model": "another", "rpc_entries": [mine, near]}
    complete(state, ME.node_id, OwnFacts(), Members())
    assert _workers(state, "tiny") == []


def _needed(world: World, name: str, model: str) -> str:
    entry = mesh_node(world.cluster.node(name)).shown[f"model/{model}"]
    text: str = entry.get("needed", "")
    return text


def test_a_model_that_fits_nowhere_says_what_would_be_needed_and_no_longer_when_it_runs() -> None:
    world = World(1)
    world.start("n0000", Box(8, own=(BIG,), disk={BIG: 18}))
    world.run(5)
    text = _needed(world, "n0000", BIG)
    assert text.startswith("It needs ") and "GB more memory" in text
    world.start("n0001", Box(32, own=("Qwen2.5-3B",), disk={"Qwen2.5-3B": 2}))
    world.run(5)
    assert "one node like n0001" in _needed(world, "n0000", BIG)
    world.start("n0002", Box(32, disk={BIG: 18}))
    world.until(lambda: world.hosts(BIG) == ["n0002"], 15)
    world.run(2)
    assert _needed(world, "n0000", BIG) == ""


def test_a_dropped_model_says_how_it_comes_back() -> None:
    world = World(1)
    world.start("n0000", Box(own=("Qwen2.5-3B", BIG), disk={"Qwen2.5-3B": 2}))
    world.run(3)
    asker = world.cluster.node("n0000")
    world.network.give(asker, DropRequested(ModelName(BIG), leave_after=True))
    world.run(3)
    assert "mesh-llm load" in _needed(world, "n0000", BIG)
