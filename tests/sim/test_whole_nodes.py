"""The simulator runs any node around a `GossipNode`: other effects come out, the checks still see."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from nodes.mesh.announcement import Announcement
from nodes.mesh.effects import PublishDelta, RecordEvent
from nodes.mesh.events import AddressesChanged
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_effects import PublishMembers
from nodes.mesh.node import MeshNode
from nodes.mesh.placement import ServingOptions
from tests.nodes.mesh.facts import ME
from tests.sim.cluster import Birth, Cluster, bare
from tests.sim.identities import node_id_of
from tests.sim.parts import Core, SimNode


@dataclass(frozen=True)
class TableSize:
    """An effect that the network does not know."""

    members: int


class Whole:
    """A node that keeps its table's changes to itself and tells something of its own instead."""

    def __init__(self, gossip: GossipNode) -> None:
        self.gossip = gossip

    @property
    def deadline(self) -> float | None:
        """Of what is inside."""
        return self.gossip.deadline

    def handle(self, event: Any, now: float) -> list[Any]:
        """Return what is inside wants, with its news turned into ours."""
        effects: list[Any] = self.gossip.handle(event, now)
        kept = [e for e in effects if not isinstance(e, PublishMembers)]
        if len(kept) < len(effects):
            kept.append(TableSize(len(self.gossip.members())))
        return kept


def whole(birth: Birth) -> tuple[Core, GossipNode]:
    _, gossip = bare(birth)
    return Whole(gossip), gossip


def test_effects_of_a_whole_node_are_told_and_its_table_is_still_checked() -> None:
    cluster = Cluster(4, 1, make=whole, warm=False)
    told: list[tuple[SimNode, TableSize]] = []
    cluster.network.on_other = lambda node, effect: told.append((node, effect))
    cluster.run(5)
    assert cluster.converged()
    assert {effect.members for _, effect in told} >= {1, 2, 3}
    victim = cluster.nodes[1]
    assert all(victim.node_id in n.views for n in cluster.nodes if n is not victim)
    cluster.network.kill(victim)
    cluster.run(5)
    assert (
        len({node.name for _, node, dead in cluster.checkers.deaths if dead == victim.node_id}) == 3
    )
    leaver = cluster.nodes[1]
    cluster.leave(leaver)
    cluster.run(5)
    assert cluster.checkers.false_deaths == 0
    assert cluster.checkers.settle() == []


def mesh_node(birth: Birth) -> tuple[Core, GossipNode]:
    """Return a whole `MeshNode` in the mesh; its announcement is what it serves, which is nothing."""
    node = MeshNode(replace(ME, node_id=node_id_of(birth.name), name=birth.name), ServingOptions())
    made: list[GossipNode] = []

    def make(said: Announcement) -> GossipNode:
        reachable = msgspec.structs.replace(said, addresses=birth.announcement.addresses)
        made.append(bare(replace(birth, announcement=reachable))[1])
        return made[0]

    node.handle(AddressesChanged(birth.announcement.addresses), birth.now)
    node.enter_mesh(make, ME.mesh_id, ME.quic_port, birth.now)
    return node, made[0]


def test_mesh_nodes_find_each_other_miss_the_dead_and_tell_their_viewers() -> None:
    cluster = Cluster(3, 2, make=mesh_node, warm=False)
    told: list[tuple[str, Any]] = []
    cluster.network.on_other = lambda node, effect: told.append((node.name, effect))
    cluster.run(5)
    assert cluster.converged()
    victim = cluster.nodes[2]
    cluster.network.kill(victim)
    cluster.run(5)
    died = {n for n, e in told if isinstance(e, RecordEvent) and e.kind == "died"}
    assert died == {"n0000", "n0001"}
    assert any(isinstance(effect, PublishDelta) for _, effect in told)
    assert cluster.checkers.settle() == []
