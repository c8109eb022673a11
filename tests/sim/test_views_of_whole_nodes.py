"""What viewers of a whole node see: deltas add up to the truth after every kind of event."""

from typing import Any

from nodes.mesh.effects import ChangeRoutes, PublishDelta
from nodes.mesh.events import (
    AnswersFinished,
    EngineFound,
    ModelsAskedFor,
    ModelWanted,
    PeerForgotten,
    ResourcesSampled,
    ServerReady,
    StopRequested,
)
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.node import MeshNode
from nodes.mesh.routing import RoutingTable
from nodes.mesh.snapshot import State, apply_delta
from tests.nodes.mesh.facts import ENGINE, MACHINE, model
from tests.sim.cluster import Cluster
from tests.sim.parts import SimNode
from tests.sim.test_whole_nodes import mesh_node


class Viewers:
    """One viewer and one router for each node, who know only what was published."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seen: dict[str, State] = {n.name: whole(n).shown for n in cluster.nodes}
        """As of the snapshot that each viewer began with."""
        self.routes: dict[str, RoutingTable] = {n.name: whole(n).routes for n in cluster.nodes}
        cluster.network.on_other = self._told

    def _told(self, node: SimNode, effect: Any) -> None:
        if isinstance(effect, PublishDelta):
            self.seen[node.name] = apply_delta(self.seen[node.name], effect.put, effect.drop)
        if isinstance(effect, ChangeRoutes):
            self.routes[node.name] = effect.table

    def of(self, node: SimNode) -> State:
        """Return what this node's viewer sees, having compared it with the truth."""
        core = whole(node)
        seen = self.seen[node.name]
        fresh = core._state()
        assert seen == fresh
        return seen


def whole(node: SimNode) -> MeshNode:
    assert isinstance(node.core, MeshNode)
    return node.core


def test_deltas_add_up_to_a_fresh_snapshot_after_every_kind_of_event() -> None:
    cluster = Cluster(3, 7, make=mesh_node, warm=False)
    viewers = Viewers(cluster)
    cluster.run(5)
    a, b, c = cluster.nodes
    assert viewers.of(a)[f"peer/{b.node_id}"]["state"] == "alive"
    network = cluster.network
    for event in (EngineFound(ENGINE), ResourcesSampled(MACHINE), ModelWanted(model("tiny"))):
        network.give(b, event)
    cluster.run(2)
    network.give(b, ServerReady(RunId(1), "127.0.0.1", 1234, 1, 4, 4096, 0.1))
    network.give(c, ModelsAskedFor((ModelName("other"),)))
    cluster.run(2)
    shown = viewers.of(a)["model/tiny"]
    assert (shown["status"], shown["nodes"]) == ("warm", [b.node_id])
    assert viewers.of(a)["model/other"]["wanted_by"] == [c.node_id]
    assert viewers.routes[a.name].served_names() == ("tiny",)
    assert viewers.of(a)["model/other"]["status"] == "cold"
    network.kill(b)
    cluster.run(8)
    assert viewers.of(a)[f"peer/{b.node_id}"]["state"] == "dead"
    assert viewers.routes[a.name].served_names() == ()
    assert "model/tiny" not in viewers.of(a)
    network.give(a, PeerForgotten(b.node_id))
    cluster.run(1)
    assert f"peer/{b.node_id}" not in viewers.of(a)
    network.give(c, StopRequested("by hand"))
    network.give(c, AnswersFinished())
    cluster.run(2)
    assert viewers.of(a)[f"peer/{c.node_id}"]["state"] == "left"


def test_one_that_is_gone_goes_out_of_sight_by_itself() -> None:
    cluster = Cluster(3, 8, make=mesh_node, warm=False)
    viewers = Viewers(cluster)
    cluster.run(5)
    a, b, _ = cluster.nodes
    cluster.network.kill(b)
    cluster.run(10)
    assert viewers.of(a)[f"peer/{b.node_id}"]["state"] == "dead"
    cluster.run(320)
    assert f"peer/{b.node_id}" not in viewers.of(a)
