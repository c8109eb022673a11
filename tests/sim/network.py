"""A seeded network under a virtual clock: processes, datagrams, and faults with names.

The model is deliberately plain: a datagram may be lost, late, doubled or overtaken; a stream is a datagram
that is repeated until it arrives (`streams`); a dial is a stream's round trip (`links`); a dead process
refuses or is silent. A process is whatever has `handle` and `deadline`: a bare `GossipNode`, or a whole
node around one (`cluster.Make`), whose other effects go to `on_other`.
"""

import heapq
import math
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from nodes.mesh.events import TimePassed
from nodes.mesh.gossip_effects import (
    CloseLink,
    LeaveFinished,
    OpenLink,
    ProbePort,
    PublishMembers,
    PublishNotice,
    RecordStory,
    RememberContacts,
    ReportTwin,
    SendAnswer,
    SendDatagram,
    SendRequest,
)
from nodes.mesh.gossip_events import (
    AnnouncementChanged,
    DatagramReceived,
    PeerRevoked,
    PortRefused,
)
from nodes.mesh.ids import NodeId
from tests.sim.links import Links
from tests.sim.parts import Faults, Observer, SimLink, SimNode
from tests.sim.streams import Streams
from tests.sim.views import swallowed

FIRST_PTO_S = 0.04
STORY_LINES_MAX = 400
_TRACE = struct.Struct("<dII")


class Network:
    """The world: every event of every node in one heap."""

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(f"network {seed}")
        self.faults = faults or Faults()
        self.now = 0.0
        self.trace = 0
        self.events = 0
        self.datagrams = 0
        self.bytes = 0
        self.largest_datagram = 0
        self.nodes: dict[NodeId, SimNode] = {}
        self.by_address: dict[str, SimNode] = {}
        self.observers: list[Observer] = []
        self.cut: set[tuple[int, int]] = set()
        self.sides: dict[int, int] = {}
        self.healed_at = -1e9
        self.expelled: set[NodeId] = set()
        """Whose membership somebody has withdrawn."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple]] = []
        self._count = 0
        self.links = Links(self)
        self.streams = Streams(self)
        self.on_other: Callable[[SimNode, Any], None] = lambda node, effect: None
        """Told of the effects that the network does not know: those of a whole node."""
        self._carry: dict[type, Callable[[SimNode, Any], None]] = {
            SendDatagram: self._send_datagram,
            PublishMembers: self._publish,
            RecordStory: self._tell,
            SendRequest: self.streams.ask,
            SendAnswer: self.streams.answer,
            OpenLink: self.links.open,
            CloseLink: self.links.close,
            ProbePort: self._probe_port,
            LeaveFinished: self._leave_finished,
            ReportTwin: self._twin,
            PublishNotice: self._notice,
            RememberContacts: self._remember,
        }

    # --- time ------------------------------------------------------------------

    def at(self, when: float, action: Callable[..., None], *args: Any) -> None:
        assert when >= self.now, "time does not go back"
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, action, args))

    def run(self, duration_s: float) -> None:
        end = self.now + duration_s
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, action, args = heapq.heappop(heap)
            action(*args)
        self.now = end

    def run_until(
        self, done: Callable[[], bool], limit_s: float, step_s: float = 0.05
    ) -> float | None:
        """Return the seconds it took, or None where the limit came first."""
        start = self.now
        while self.now - start < limit_s:
            if done():
                return self.now - start
            self.run(step_s)
        return self.now - start if done() else None

    # --- nodes -----------------------------------------------------------------

    def add(self, node: SimNode) -> None:
        before = self.nodes.get(node.node_id)
        if before is not None:
            node.former = max(before.former, before.gossip.record.order)
        node.started_at = self.now
        self.nodes[node.node_id] = node
        self.by_address[node.address] = node
        self._arm(node)

    def give(self, node: SimNode, event: Any) -> None:
        """Hand an event to a node, or keep it while the process stands still."""
        if not node.alive:
            return
        if self.now < node.paused_until:
            node.backlog.append(event)
            return
        self.events += 1
        data = getattr(event, "data", b"")
        self.trace = zlib.crc32(
            data, zlib.crc32(_TRACE.pack(self.now, node.index, len(data)), self.trace)
        )
        now = node.clock(self.now)
        deadline = _deadline(node)
        if now < deadline < now + 1e-6:  # the two clocks differ by rounding
            now = deadline
        effects = node.core.handle(event, now)
        if node.core is not node.gossip:
            effects = swallowed(node, effects)
        self.carry(node, effects)
        if isinstance(event, AnnouncementChanged):
            self._publish(node, PublishMembers(()))  # A node elects anew for its own change too.
        node.claimed.add(node.gossip.record.claim.incarnation)

    def carry(self, node: SimNode, effects: list[Any]) -> None:
        for effect in effects:
            self._carry.get(type(effect), self.on_other)(node, effect)
        self._arm(node)

    def _arm(self, node: SimNode) -> None:
        when = max(self.now, (_deadline(node) - node.skew) / node.rate)
        if when < node.wake:
            node.wake = when
            self.at(when, self._wake, node, when)

    def _wake(self, node: SimNode, when: float) -> None:
        if not node.alive or when != node.wake:
            return
        if self.now < node.paused_until:
            return
        node.wake = float("inf")
        if _deadline(node) <= node.clock(self.now) + 1e-9:
            self.give(node, TimePassed())
        else:
            self._arm(node)

    def pause(self, node: SimNode, duration_s: float) -> None:
        """The process stands still; what arrives waits for it."""
        if self.now >= node.paused_until:
            node.paused_since = self.now
        node.paused_until = max(node.paused_until, self.now + duration_s)
        self.at(node.paused_until, self._resume, node)

    def _resume(self, node: SimNode) -> None:
        if not node.alive or self.now < node.paused_until:
            return
        backlog, node.backlog = node.backlog, []
        node.wake = float("inf")
        self.give(node, TimePassed())  # the worst order: the clock is read before the post
        for event in backlog:
            self.give(node, event)

    def kill(self, node: SimNode, silent: bool = False) -> None:
        """kill -9; `silent`: the whole machine goes, nothing refuses."""
        node.alive = False
        node.silent = silent
        node.died_at = self.now
        self.links.cut_off(node)

    def undisturbed_s(self) -> float:
        """For how long everyone has been able to reach everyone."""
        apart = any(a != b for a, b in self.cut) or len(set(self.sides.values())) > 1
        return 0.0 if apart else self.now - self.healed_at

    # --- the path --------------------------------------------------------------

    def reaches(self, a: SimNode, b: SimNode) -> bool:
        if self.sides and self.sides.get(a.index, 0) != self.sides.get(b.index, 0):
            return False
        return (a.index, b.index) not in self.cut

    def _lag(self) -> float:
        faults, rng = self.faults, self.rng
        lag = faults.delay_s + rng.random() * faults.jitter_s
        if faults.reordering and rng.random() < faults.reordering:
            lag += faults.delay_s * 4 + faults.jitter_s * 4
        return lag

    def reliable_lag(self) -> float:
        """One-way time of something that is repeated until it arrives."""
        lag, pto = self._lag(), FIRST_PTO_S + 3 * self.faults.delay_s
        while self.rng.random() < self.faults.loss:
            lag += pto
            pto *= 2
        return lag

    def _send_datagram(self, node: SimNode, effect: SendDatagram) -> None:
        link = node.links.get(effect.peer)
        if link is None:
            return
        size = len(effect.data)
        self.datagrams += 1
        self.bytes += size
        self.largest_datagram = max(self.largest_datagram, size)
        other = link.other(node)
        faults = self.faults
        copies = 1 + (self.rng.random() < faults.duplication if faults.duplication else 0)
        for _ in range(copies):
            if self.rng.random() >= faults.loss and self.reaches(node, other):
                event = DatagramReceived(node.node_id, effect.data)
                self.at(self.now + self._lag(), self._arrive, other, link, event)

    def _arrive(self, node: SimNode, link: SimLink, event: DatagramReceived) -> None:
        if node.links.get(event.peer) is link:
            self.give(node, event)

    def _probe_port(self, node: SimNode, effect: ProbePort) -> None:
        target = self.by_address.get(effect.address)
        if target is None or target.alive or target.silent:
            return
        if self.reaches(node, target) and self.rng.random() >= self.faults.loss:
            event = PortRefused(effect.peer, effect.address)
            self.at(self.now + 2 * self._lag(), self.give, node, event)

    # --- what people and the rest of the node see --------------------------------

    def _publish(self, node: SimNode, effect: PublishMembers) -> None:
        for observer in self.observers:
            observer(node, effect)
        for view in effect.changed:
            if view.state in ("dead", "left"):
                node.views.pop(view.node_id, None)
            else:
                node.views[view.node_id] = view
                node.heard_of.add(view.node_id)

    def _tell(self, node: SimNode, effect: RecordStory) -> None:
        if len(node.story) < STORY_LINES_MAX:
            node.story.append(f"{self.now:9.3f}  {effect.kind:10s} {effect.text}")

    def _leave_finished(self, node: SimNode, _: LeaveFinished) -> None:
        node.left = True
        self.kill(node)

    def _twin(self, node: SimNode, _: ReportTwin) -> None:
        node.twin = True

    def _notice(self, node: SimNode, effect: PublishNotice) -> None:
        """What the rest of a node does with a notice; of a revocation: see that it holds."""
        node.notices.append((effect.topic, effect.version, effect.body))
        kind, _, subject = effect.topic.partition("/")
        if kind == "revoke":
            self.revoke(node, NodeId(subject))

    def revoke(self, node: SimNode, subject: NodeId) -> None:
        """This node has verified a revocation: no more handshakes, and its core is told."""
        node.revoked.add(subject)
        self.expelled.add(subject)
        self.at(self.now, self.give, node, PeerRevoked(subject))

    def _remember(self, node: SimNode, effect: RememberContacts) -> None:
        node.contacts = effect.contacts


def _deadline(node: SimNode) -> float:
    deadline: float | None = node.core.deadline
    return math.inf if deadline is None else deadline
