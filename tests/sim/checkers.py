"""What must hold all the time, whatever the network does. Each finding is a sentence with its time."""

from dataclasses import replace

from nodes.mesh.gossip_effects import GossipEffect, MemberState, MemberView, PublishMembers
from nodes.mesh.ids import NodeId
from tests.sim.network import Network
from tests.sim.parts import SimNode

IN_FLIGHT_S = 1.0
"""A node that died so recently may still be met by what it sent while it lived (stalls read it late)."""
HEALING_S = 5.0
"""A round trip that was begun while the two were apart may still fail so long afterwards."""
FINDINGS_MAX = 50
ELECTION_MAX = 200
"""Members. The stub election looks at the whole table at every change, so it is left out beyond."""


class StubEngine:
    """An election of one host by memory; every change of its outcome restarts an engine."""

    def __init__(self) -> None:
        self.host: NodeId | None = None
        self.changes = 0
        self.starts = 0


class Checkers:
    """Watches every publication of every node."""

    def __init__(self, network: Network, engine_bug: bool = False) -> None:
        self.findings: list[str] = []
        self.deaths: list[tuple[float, SimNode, NodeId]] = []
        self.false_deaths = 0
        self._network = network
        self._engine_bug = engine_bug
        self._engines: dict[tuple[int, int], StubEngine] = {}
        network.observers.append(self._observe)

    def _find(self, text: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(f"{self._network.now:.3f} {text}")

    def _observe(self, node: SimNode, effect: GossipEffect) -> None:
        assert isinstance(effect, PublishMembers)
        for view in effect.changed:
            subject = self._network.nodes.get(view.node_id)
            if subject is None:
                continue
            if view.state is MemberState.DEAD:
                self._check_death(node, subject, view)
            elif view.state is not MemberState.LEFT:
                self._check_presence(node, subject, view)
        if len(node.views) < ELECTION_MAX:
            self._elect(node, effect)

    def _check_death(self, node: SimNode, subject: SimNode, view: MemberView) -> None:
        network = self._network
        self.deaths.append((network.now, node, subject.node_id))
        apart = not (network.reaches(node, subject) and network.reaches(subject, node))
        apart = apart or network.now - network.healed_at < HEALING_S
        former_life = view.incarnation < subject.born
        if subject.alive and not apart and not former_life:
            self.false_deaths += 1
            self._find(f"false death: {node.name} declared {subject.name} dead, which runs")

    def _check_presence(self, node: SimNode, subject: SimNode, view: MemberView) -> None:
        dead_for = self._network.now - subject.died_at
        if not subject.alive and dead_for > IN_FLIGHT_S and view.node_id not in node.views:
            self._find(f"ghost: {node.name} (re-)added {subject.name}, dead for {dead_for:.1f} s")
        if (view.incarnation, view.version) > max(subject.former, subject.gossip.record.order):
            self._find(
                f"second writer: {node.name} has a word of {subject.name} that it never said"
            )

    def _elect(self, node: SimNode, effect: PublishMembers) -> None:
        engine = self._engines.setdefault((node.index, id(node)), StubEngine())
        table = {m.node_id: m.announcement.memory_bytes for m in node.gossip.members()}
        table[node.node_id] = node.gossip.record.body.announcement.memory_bytes
        host = max(table, key=lambda i: (table[i], i))
        if host != engine.host:
            engine.host = host
            engine.changes += 1
            engine.starts += 1
        elif self._engine_bug:
            engine.starts += 1
        if engine.starts > engine.changes:
            self._find(f"restart storm: {node.name} started an engine with no new election outcome")
            engine.starts = engine.changes

    def settle(self) -> list[str]:
        """Check what must hold once things have come to rest; return all findings."""
        running = {i: n for i, n in self._network.nodes.items() if n.alive}
        for node in running.values():
            listed = {v.node_id: v for v in node.gossip.members()}
            for ghost in listed.keys() - running.keys():
                self._find(f"ghost: {node.name} still lists {self._network.nodes[ghost].name}")
            for missing in running.keys() - listed.keys() - {node.node_id}:
                self._find(f"not converged: {node.name} does not list {running[missing].name}")
            if _lasting(listed) != _lasting(node.views):
                self._find(f"views: {node.name}'s deltas do not add up to its table")
            if node.gossip.linked != frozenset(node.links):
                self._find(f"links: {node.name} does not know its own links")
            for dead in node.gossip.dead_peers & node.views.keys():
                self._find(
                    f"routing: {node.name} would route to {dead[:8]}, which it declared dead"
                )
        return self.findings


def _lasting(views: dict[NodeId, MemberView]) -> dict[NodeId, MemberView]:
    """Round trips and load change without a publication."""
    return {i: replace(view, rtt_s=None, load=b"") for i, view in views.items()}
