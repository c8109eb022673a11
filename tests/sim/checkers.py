"""What must hold all the time, whatever the network does. Each finding is a sentence with its time."""

from dataclasses import replace

from nodes.mesh.announcement import Announcement
from nodes.mesh.gossip_effects import GossipEffect, MemberState, MemberView, PublishMembers
from nodes.mesh.ids import NodeId
from tests.sim.network import Network
from tests.sim.parts import SimNode
from tests.sim.stub_election import StubElections

IN_FLIGHT_S = 1.0
"""A node that died so recently may still be met by what it sent while it lived (stalls read it late)."""
STILL_S = 2.0
"""A process that stands still for so long must not be declared dead (the issue's table); longer, it may."""
STILL_RECENT_S = 1.0
GHOST_S = 25.0
"""A dead node that a healthy running node lists for so long is a permanent ghost: the longest suspicion is
15 s, its verification 2.5 s, a round of probes at most 8 s."""
GHOST_UNHEALTHY_S = 90.0
"""The same for a node that doubts itself: it probes one of up to 16 every 4 s (seed 600: it was cut off)."""
SWEEP_S = 1.0
HEALING_S = 5.0
"""A round trip that was begun while the two were apart may still fail so long afterwards."""
FINDINGS_MAX = 50
ELECTION_MAX = 200
"""Members. The stub election looks at the whole table at every change, so it is left out beyond."""


class Checkers:
    """Watches every publication of every node."""

    def __init__(self, network: Network, engine_bug: bool = False) -> None:
        self.findings: list[str] = []
        self.deaths: list[tuple[float, SimNode, NodeId]] = []
        self.confirmed: dict[NodeId, float] = {}
        """When anybody first declared the latest death of each."""
        self.false_deaths = 0
        self._network = network
        self._elections = StubElections(engine_bug)
        self._said: dict[tuple[NodeId, int, int], Announcement] = {}
        self._haunted: set[tuple[str, NodeId]] = set()
        network.observers.append(self._observe)
        network.at(network.now + SWEEP_S, self._sweep)

    def find(self, text: str) -> None:
        """Note what must not be."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(f"{self._network.now:.3f} {text}")

    def _observe(self, node: SimNode, effect: GossipEffect) -> None:
        assert isinstance(effect, PublishMembers)
        if node.node_id in self._network.expelled:
            return
        for view in effect.changed:
            subject = self._network.nodes.get(view.node_id)
            if subject is None:
                continue
            self._check_writer(node, subject, view)
            if view.state is MemberState.DEAD:
                self._check_death(node, subject, view)
            elif view.state is MemberState.LEFT:
                node.buried[subject.node_id] = self._network.now
            else:
                self._check_presence(node, subject, view)
        if len(self._network.nodes) < ELECTION_MAX:
            wrong = self._elections.look(node, self._network.now)
            if wrong is not None:
                self.find(wrong)

    def _check_death(self, node: SimNode, subject: SimNode, view: MemberView) -> None:
        network = self._network
        self.deaths.append((network.now, node, subject.node_id))
        node.buried[subject.node_id] = network.now
        if not subject.alive and self.confirmed.get(subject.node_id, -1.0) < subject.died_at:
            self.confirmed[subject.node_id] = network.now
        apart = not (network.reaches(node, subject) and network.reaches(subject, node))
        apart = apart or network.now - network.healed_at < HEALING_S
        former_life = view.incarnation not in subject.claimed
        excused = apart or former_life or _stood_still(subject, network.now)
        if subject.alive and not excused and subject.node_id not in network.expelled:
            self.false_deaths += 1
            self.find(f"false death: {node.name} declared {subject.name} dead, which runs")

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
                self.find(f"ghost: {node.name} re-added {subject.name}, dead for {dead_for:.1f} s")
        if view.node_id in node.gossip._core.revoked:
            self.find(f"revoked: {node.name} lists {subject.name}, which it knows to be expelled")

    def _check_writer(self, node: SimNode, subject: SimNode, view: MemberView) -> None:
        """What is known of a node is what that node said, under the number under which it said it."""
        order = (view.incarnation, view.version)
        mine = subject.gossip.record
        if order > max(subject.former, mine.order):
            self.find(f"second writer: {node.name} has a word of {subject.name} that it never said")
        first = mine.body.announcement if order == mine.order else view.announcement
        said = self._said.setdefault((view.node_id, *order), first)
        if said is not view.announcement and said != view.announcement:
            self.find(f"second writer: two words of {subject.name} have one number, {order}")

    def _sweep(self) -> None:
        """Look for ghosts that nobody corrects."""
        network = self._network
        network.at(network.now + SWEEP_S, self._sweep)
        gone = {i: n for i, n in network.nodes.items() if not n.alive}
        for node in network.nodes.values():
            if not node.alive or node.node_id in network.expelled:
                continue
            for ghost in node.views.keys() & gone.keys():
                listed_s = network.now - max(gone[ghost].died_at, node.started_at)
                limit_s = GHOST_UNHEALTHY_S if node.gossip.health_score else GHOST_S
                if listed_s > limit_s and (node.name, ghost) not in self._haunted:
                    self._haunted.add((node.name, ghost))
                    self.find(f"ghost: {node.name} lists {gone[ghost].name}, dead for {listed_s} s")

    def settle(self) -> list[str]:
        """Check what must hold once things have come to rest; return all findings."""
        network = self._network
        running = {i: n for i, n in network.nodes.items() if n.alive and i not in network.expelled}
        islands = _islands(running)
        for node in running.values():
            listed = {v.node_id: v for v in node.gossip.members()}
            for ghost in listed.keys() - running.keys():
                self.find(f"ghost: {node.name} still lists {network.nodes[ghost].name}")
            if self._elections.restless(node, network.healed_at):
                self.find(f"restart storm: {node.name} elects anew although all is at rest")
            for missing in islands[node.node_id] - listed.keys() - {node.node_id}:
                self.find(f"not converged: {node.name} does not list {running[missing].name}")
            if _lasting(listed) != _lasting(node.views):
                self.find(f"views: {node.name}'s deltas do not add up to its table")
            if node.gossip.linked != frozenset(node.links):
                self.find(f"links: {node.name} does not know its own links")
            for dead in node.gossip.dead_peers & node.views.keys():
                self.find(f"routing: {node.name} would route to {dead[:8]}, which it declared dead")
        return self.findings


def _stood_still(subject: SimNode, now: float) -> bool:
    """Whether it stands, or just stood, still for longer than the protocol promises to wait."""
    return subject.stood_s(now) > STILL_S and now - subject.paused_until < STILL_RECENT_S


def _islands(running: dict[NodeId, SimNode]) -> dict[NodeId, set[NodeId]]:
    """Return for each node all those to whom a chain of acquaintances leads, itself included.

    Seed 10179: a newcomer was told of one node only, which was gone before they met.
    """
    island = {node_id: {node_id} for node_id in running}
    for node_id, node in running.items():
        for other in node.heard_of & running.keys():
            if island[other] is not island[node_id]:
                island[other] |= island[node_id]
                for member in island[node_id]:
                    island[member] = island[other]
    return island


def _lasting(views: dict[NodeId, MemberView]) -> dict[NodeId, MemberView]:
    """Round trips and load change without a publication."""
    return {i: replace(view, rtt_s=None, rtt_least_s=None, load=b"") for i, view in views.items()}
