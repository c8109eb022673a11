"""A seeded network under a virtual clock: links, datagrams, streams, and faults with names.

The model is deliberately plain: a datagram may be lost, late, doubled or overtaken; a stream is a datagram
that is repeated until it arrives; a dial is a stream's round trip; a dead process refuses or is silent.
"""

import heapq
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from nodes.mesh.events import TimePassed
from nodes.mesh.gossip_effects import (
    CloseLink,
    GossipEffect,
    LeaveFinished,
    OpenLink,
    ProbePort,
    PublishMembers,
    RecordStory,
    ReportTwin,
    SendAnswer,
    SendDatagram,
    SendRequest,
)
from nodes.mesh.gossip_events import (
    Contact,
    DatagramReceived,
    DialFailed,
    LinkDown,
    LinkEnd,
    LinkIdle,
    LinkUp,
    PortRefused,
    RequestAnswered,
    RequestFailed,
    RequestId,
    RequestReceived,
)
from nodes.mesh.ids import NodeId
from tests.sim.parts import Faults, Observer, SimLink, SimNode

FIRST_PTO_S = 0.04
LOST_AFTER_S = 30.0
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
        self._heap: list[tuple[float, int, Callable[..., None], tuple]] = []
        self._count = 0
        self._links = 0
        self._requests = 0
        self._carry: dict[type, Callable[[SimNode, Any], None]] = {
            SendDatagram: self._send_datagram,
            PublishMembers: self._publish,
            RecordStory: self._tell,
            SendRequest: self._send_request,
            SendAnswer: self._send_answer,
            OpenLink: self._open_link,
            CloseLink: self._close_link,
            ProbePort: self._probe_port,
            LeaveFinished: self._leave_finished,
            ReportTwin: self._twin,
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
        if now < node.gossip.deadline < now + 1e-6:  # the two clocks differ by rounding
            now = node.gossip.deadline
        self.carry(node, node.gossip.handle(event, now))
        node.claimed.add(node.gossip.record.claim.incarnation)

    def carry(self, node: SimNode, effects: list[GossipEffect]) -> None:
        for effect in effects:
            action = self._carry.get(type(effect))
            if action is not None:
                action(node, effect)
        self._arm(node)

    def _arm(self, node: SimNode) -> None:
        when = max(self.now, (node.gossip.deadline - node.skew) / node.rate)
        if when < node.wake:
            node.wake = when
            self.at(when, self._wake, node, when)

    def _wake(self, node: SimNode, when: float) -> None:
        if not node.alive or when != node.wake:
            return
        if self.now < node.paused_until:
            return
        node.wake = float("inf")
        if node.gossip.deadline <= node.clock(self.now) + 1e-9:
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
        for peer, link in list(node.links.items()):
            other = link.other(node)
            self.at(self.now + LOST_AFTER_S, self._lose, other, node.node_id, link, LinkEnd.LOST)
            del node.links[peer]

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

    def _reliable_lag(self, a: SimNode, b: SimNode) -> float:
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

    # --- dials -----------------------------------------------------------------

    def _target(self, contact: Contact) -> SimNode | None:
        for address in contact.addresses:
            node = self.by_address.get(address)
            if node is not None and contact.node_id in (None, node.node_id):
                return node
        return None

    def _open_link(self, node: SimNode, effect: OpenLink) -> None:
        def failed(refused: bool) -> None:
            self.give(node, DialFailed(effect.contact, refused))

        self._dial(node, effect.contact, effect.timeout_s, lambda link: None, failed)

    def _dial(self, node: SimNode, contact: Contact, timeout_s: float,
              done: Callable[[SimLink], None], failed: Callable[[bool], None]) -> None:  # fmt: skip
        target = self._target(contact)
        if target is not None and target.node_id in node.links:
            done(node.links[target.node_id])
            return
        if target is None or target is node:
            self.at(self.now + timeout_s, failed, False)
            return
        there, back = self._reliable_lag(node, target), self._reliable_lag(target, node)
        ends = self.now + timeout_s
        arrives = self.now + there + back
        if arrives > ends:
            self.at(ends, failed, False)
        else:
            self.at(arrives, self._handshake, node, target, ends, done, failed)

    def _handshake(self, node: SimNode, target: SimNode, ends: float,
                   done: Callable[[SimLink], None], failed: Callable[[bool], None]) -> None:  # fmt: skip
        """Both ends come up at the same moment: the last flight is not modelled."""
        target = self.by_address[target.address]
        both = self.reaches(node, target) and self.reaches(target, node)
        if node.alive and both and not target.alive and not target.silent:
            failed(True)
            return
        if not (node.alive and both and target.alive) or self.now < target.paused_until:
            if both and node.alive and target.alive and self.now < target.paused_until < ends:
                self.at(target.paused_until, self._handshake, node, target, ends, done, failed)
            else:
                self.at(max(ends, self.now), failed, False)
            return
        old = node.links.get(target.node_id)
        kept = old if target.links.get(node.node_id) is old else None
        if kept is not None and (kept.a.node_id <= node.node_id or node.node_id > target.node_id):
            done(kept)
            return
        self._links += 1
        link = SimLink(self._links, node, target, self.now)
        stale = [(n, p, n.links.get(p.node_id)) for n, p in ((node, target), (target, node))]
        node.links[target.node_id] = link
        target.links[node.node_id] = link
        self.give(target, LinkUp(node.node_id, link.number, False, node.address))
        self.give(node, LinkUp(target.node_id, link.number, True, target.address))
        for owner, peer, before in stale:
            if before is not None:
                down = LinkDown(peer.node_id, before.number, LinkEnd.LOST)
                self.at(self.now + 0.01, self.give, owner, down)
        self.at(self.now + 60.0, self._idle, link)
        done(link)

    def _idle(self, link: SimLink) -> None:
        open_ends = [n for n in (link.a, link.b) if n.links.get(link.other(n).node_id) is link]
        for node in open_ends:
            if self.now - link.used_at >= 60.0:
                self.give(node, LinkIdle(link.other(node).node_id, link.number))
        if open_ends:
            self.at(self.now + 60.0, self._idle, link)

    def _close_link(self, node: SimNode, effect: CloseLink) -> None:
        link = node.links.get(effect.peer)
        if link is None or link.number != effect.link:
            return
        del node.links[effect.peer]
        other = link.other(node)
        lag = self._reliable_lag(node, other)
        self.at(self.now + lag, self._far_close, node, other, link)

    def _far_close(self, node: SimNode, other: SimNode, link: SimLink) -> None:
        if self.reaches(node, other):
            self._lose(other, node.node_id, link, LinkEnd.CLOSED)
        else:
            self.at(self.now + LOST_AFTER_S, self._lose, other, node.node_id, link, LinkEnd.LOST)

    def _lose(self, node: SimNode, peer: NodeId, link: SimLink, reason: LinkEnd) -> None:
        if node.alive and node.links.get(peer) is link:
            del node.links[peer]
            self.give(node, LinkDown(peer, link.number, reason))

    def _probe_port(self, node: SimNode, effect: ProbePort) -> None:
        target = self.by_address.get(effect.address)
        if target is None or target.alive or target.silent:
            return
        if self.reaches(node, target) and self.rng.random() >= self.faults.loss:
            event = PortRefused(effect.peer, effect.address)
            self.at(self.now + 2 * self._lag(), self.give, node, event)

    # --- streams ---------------------------------------------------------------

    def _send_request(self, node: SimNode, effect: SendRequest) -> None:
        state = {"open": True}

        def failed(refused: bool = False) -> None:
            if state["open"]:
                state["open"] = False
                self.give(node, RequestFailed(effect.request, refused))

        def linked(link: SimLink) -> None:
            link.used_at = self.now
            other = link.other(node)
            lag = self._reliable_lag(node, other)
            self.at(self.now + lag, self._request_arrives, node, other, link, effect, state)

        self.at(self.now + effect.timeout_s, failed)
        self._dial(node, effect.contact, effect.timeout_s, linked, failed)

    def _request_arrives(self, node: SimNode, other: SimNode, link: SimLink, effect: SendRequest,
                         state: dict[str, bool]) -> None:  # fmt: skip
        if not self.reaches(node, other) or other.links.get(node.node_id) is not link:
            return
        self.bytes += len(effect.data)
        self._requests += 1
        number = self._requests

        def answer(data: bytes) -> None:
            def arrives() -> None:
                if (
                    state["open"]
                    and self.reaches(other, node)
                    and node.links.get(other.node_id) is link
                ):
                    state["open"] = False
                    self.bytes += len(data)
                    self.give(node, RequestAnswered(effect.request, data))

            self.at(self.now + self._reliable_lag(other, node), arrives)

        other.requests[number] = answer  # type: ignore[assignment]
        self.give(other, RequestReceived(node.node_id, RequestId(number), effect.data))

    def _send_answer(self, node: SimNode, effect: SendAnswer) -> None:
        answer: Any = node.requests.pop(effect.request, None)
        if answer is not None:
            answer(effect.data)

    # --- what people and the rest of the node see --------------------------------

    def _publish(self, node: SimNode, effect: PublishMembers) -> None:
        for observer in self.observers:
            observer(node, effect)
        for view in effect.changed:
            if view.state in ("dead", "left"):
                node.views.pop(view.node_id, None)
            else:
                node.views[view.node_id] = view

    def _tell(self, node: SimNode, effect: RecordStory) -> None:
        if len(node.story) < 400:
            node.story.append(f"{self.now:9.3f}  {effect.kind:10s} {effect.text}")

    def _leave_finished(self, node: SimNode, _: LeaveFinished) -> None:
        node.left = True
        self.kill(node)

    def _twin(self, node: SimNode, _: ReportTwin) -> None:
        node.twin = True
