"""What must hold all the time, whatever the network does. Each finding is a sentence with its time."""

from dataclasses import replace

from nodes.mesh.gossip_effects import GossipEffect, MemberState, MemberView, PublishMembers
from nodes.mesh.ids import NodeId
from tests.sim.network import Network
from tests.sim.parts import SimNode

IN_FLIGHT_S = 1.0
"""A node that died so recently may still be met by what it sent while it lived (stalls read it late)."""
STILL_S = 2.0
"""A process that stands still for so long must not be declared dead (the issue's table); longer, it may."""
STILL_RECENT_S = 1.0
GHOST_S = 20.0
"""A dead node that some running node lists for so long is a permanent ghost: the longest suspicion (12 s),
its verification, and as much again as a round of probes takes a node that is alone with its doubts."""
SWEEP_S = 1.0
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
        self._haunted: set[tuple[str, NodeId]] = set()
        self._engines: dict[tuple[int, int], StubEngine] = {}
        network.observers.append(self._observe)
        network.at(network.now + SWEEP_S, self._sweep)

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
            elif view.state is MemberState.LEFT:
                node.buried[subject.node_id] = self._network.now
            else:
                self._check_presence(node, subject, view)
        if len(node.views) < ELECTION_MAX:
            self._elect(node, effect)

    def _check_death(self, node: SimNode, subject: SimNode, view: MemberView) -> None:
        network = self._network
        self.deaths.append((network.now, node, subject.node_id))
        node.buried[subject.node_id] = network.now
        apart = not (network.reaches(node, subject) and network.reaches(subject, node))
        apart = apart or network.now - network.healed_at < HEALING_S
        former_life = view.incarnation not in subject.claimed
        if subject.alive and not (apart or former_life or _stood_still(subject, network.now)):
            self.false_deaths += 1
            self._find(f"false death: {node.name} declared {subject.name} dead, which runs")

    def _check_presence(self, node: SimNode, subject: SimNode, view: MemberView) -> None:
        """A node that has buried a dead one must not list it again.

        Seed 35: a newcomer may well be told of a dead node that nobody has missed yet. It has buried
        nobody, so that is hearsay to be corrected (`GHOST_S`), not a ghost come back.
        """
        dead_for = self._network.now - subject.died_at
        if not subject.alive and view.node_id not in node.views:
            buried_at = node.buried.get(view.node_id)
            # Buried while it lived (they were apart): met again by what it sent before it died.
            met_again = buried_at is not None and buried_at < subject.died_at
            if buried_at is not None and not (met_again and dead_for <= IN_FLIGHT_S):
                self._find(f"ghost: {node.name} re-added {subject.name}, dead for {dead_for:.1f} s")
        if (view.incarnation, view.version) > max(subject.former, subject.gossip.record.order):
            self._find(
                f"second writer: {node.name} has a word of {subject.name} that it never said"
            )

    def _sweep(self) -> None:
        """Look for ghosts that nobody corrects."""
        network = self._network
        network.at(network.now + SWEEP_S, self._sweep)
        gone = {i: n for i, n in network.nodes.items() if not n.alive}
        for node in network.nodes.values():
            if not node.alive:
                continue
            for ghost in node.views.keys() & gone.keys():
                since = max(gone[ghost].died_at, node.started_at)
                if network.now - since > GHOST_S and (node.name, ghost) not in self._haunted:
                    self._haunted.add((node.name, ghost))
                    self._find(f"ghost: {node.name} lists {gone[ghost].name}, dead for {GHOST_S} s")

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


def _stood_still(subject: SimNode, now: float) -> bool:
    """Whether it stands, or just stood, still for longer than the protocol promises to wait."""
    return subject.stood_s(now) > STILL_S and now - subject.paused_until < STILL_RECENT_S


def _lasting(views: dict[NodeId, MemberView]) -> dict[NodeId, MemberView]:
    """Round trips and load change without a publication."""
    return {i: replace(view, rtt_s=None, load=b"") for i, view in views.items()}
