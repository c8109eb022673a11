"""One node's half of gossip as a sans-IO state machine: `GossipNode.handle(event, now) -> effects`.

Composes the parts (membership, failure detection, suspicion, dissemination, anti-entropy, heartbeat,
links, rejoin) and hands each event to the part that decides. Knows no clock, no socket, no cryptography
and no random source of its own. The boundary is written down in docs/gossip.md.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import msgspec

from nodes.mesh import codec, limits
from nodes.mesh.announcement import Announcement
from nodes.mesh.anti_entropy import AntiEntropy
from nodes.mesh.config import GossipConfig
from nodes.mesh.events import TimePassed
from nodes.mesh.failure_detector import FailureDetector
from nodes.mesh.gossip_core import Core, Link
from nodes.mesh.gossip_effects import GossipEffect, LeaveFinished, MemberView, SendAnswer
from nodes.mesh.gossip_events import (
    AnnouncementChanged,
    CredentialRenewed,
    DatagramReceived,
    DialFailed,
    GossipEvent,
    JoinRequested,
    LeaveRequested,
    LinkDown,
    LinkIdle,
    LinkUp,
    LoadChanged,
    NoticeIssued,
    PeerRevoked,
    PeerUseFailed,
    PortRefused,
    RequestAnswered,
    RequestFailed,
    RequestReceived,
)
from nodes.mesh.heartbeat import Heartbeat
from nodes.mesh.ids import NodeId
from nodes.mesh.links import Links
from nodes.mesh.load_figures import LoadFigures
from nodes.mesh.membership import Membership
from nodes.mesh.messages import (
    Accusation,
    Ack,
    Check,
    Claim,
    Exchange,
    Gossip,
    Nack,
    Notice,
    Ping,
    PingRequest,
    RelayAck,
    StreamMessage,
    Sync,
)
from nodes.mesh.notices import Notices
from nodes.mesh.port_evidence import PortEvidence
from nodes.mesh.records import NodeIdentity, Record, id_of_key
from nodes.mesh.rejoin import Rejoin
from nodes.mesh.suspicion import Suspicions

_FIRST_GOSSIP_S = 0.01
_UPDATE_BUDGET_BYTES = limits.DATAGRAM_BYTES_MAX - 16
_FAREWELLS = 3


class GossipNode:
    """Membership as one node sees it. Only one task calls `handle`; `now` never goes back."""

    def __init__(self, identity: NodeIdentity, announcement: Announcement, incarnation: int,
                 config: GossipConfig, rng: random.Random, now: float) -> None:  # fmt: skip
        """`incarnation` is Unix milliseconds at start, so that a restart outranks the life before."""
        core = self._core = Core(identity, id_of_key(identity.public_key), config, rng, now,
                                 incarnation / 1000)  # fmt: skip
        core.sign_me(announcement, incarnation, 0)
        self._membership = Membership(core)
        self._ports = PortEvidence(core, self._membership)
        self._suspicions = Suspicions(core, self._membership, self._ports)
        self._figures = LoadFigures(core)
        self._detector = FailureDetector(core, self._suspicions, self._ports, self._figures)
        self._anti_entropy = AntiEntropy(core, self._membership, self._hear_updates)
        self._heartbeat = Heartbeat(core, self._suspicions, self._anti_entropy)
        self._links = Links(core)
        self._rejoin = Rejoin(core, self._links)
        self._notices = Notices(core)
        self._gossiping = False
        self._has_left = False
        self._wire()
        self._handlers: dict[type, Callable[[Any], None]] = {
            DatagramReceived: self._datagram,
            TimePassed: lambda event: None,
            RequestReceived: self._request,
            RequestAnswered: self._answered,
            RequestFailed: lambda e: core.answered(e.request, None, e.refused),
            LinkUp: self._links.up,
            LinkDown: self._link_down,
            LinkIdle: self._links.idle,
            DialFailed: self._links.dial_failed,
            PortRefused: lambda e: self._ports.refused(e.peer, e.address),
            PeerUseFailed: lambda e: self._suspicions.unheard(e.peer),
            PeerRevoked: self._revoked,
            AnnouncementChanged: self._announce,
            CredentialRenewed: self._renew,
            LoadChanged: self._figures.changed,
            NoticeIssued: self._notices.issue,
            JoinRequested: lambda e: self._rejoin.join(e.contacts),
            LeaveRequested: self._leave,
        }

    def _wire(self) -> None:
        core, membership, links = self._core, self._membership, self._links
        core.on_queued = self._gossip_soon
        membership.on_return = self._rejoin.claimed_return
        membership.on_unknown_body = self._anti_entropy.want
        membership.on_newer = self._newer
        membership.on_gone = self._gone
        membership.on_joined = self._joined
        links.on_up = self._link_up
        links.on_lost = self._ports.probe
        links.on_refused = lambda node_id: self._ports.refused(node_id, None)
        self._anti_entropy.notices = self._notices.encoded
        self._anti_entropy.notices_lacking = self._notices.lacking

    # --- the whole interface ---------------------------------------------

    def handle(self, event: GossipEvent, now: float) -> list[GossipEffect]:
        """Return what is to be done about an event. Runs whatever else is due by `now`, after it."""
        core = self._core
        core.now = now
        deadline = core.timers.deadline
        if now - deadline > core.config.stall_s:
            self._stalled(now - deadline)
        self._handlers[type(event)](event)
        if deadline <= now:
            core.timers.run_due(now)
        departed = self._membership.departed
        if departed:
            self._membership.departed = []
        return core.take_effects(tuple(departed))

    @property
    def deadline(self) -> float:
        """When to call again with `TimePassed`, monotonic seconds."""
        return self._core.timers.deadline

    def members(self) -> tuple[MemberView, ...]:
        """Return everyone else in the table: alive or suspect."""
        return tuple(self._core.view(m) for m in self._core.members.values())

    def restore(self, records: Iterable[Record]) -> None:
        """Start from a table that is already known, before the first event; nothing of it is gossiped on."""
        for record in records:
            self._membership.learn(record, self._core.self_id, spread=False)

    @property
    def linked(self) -> frozenset[NodeId]:
        """Those to whom a link is up."""
        return frozenset(self._core.links)

    @property
    def identity(self) -> NodeIdentity:
        """This node's key and judgement."""
        return self._core.identity

    @property
    def node_id(self) -> NodeId:
        """This node's own id."""
        return self._core.self_id

    @property
    def record(self) -> Record:
        """This node's own record, as others get it."""
        return self._core.me

    @property
    def dead_peers(self) -> frozenset[NodeId]:
        """Those whom gossip cannot bring back."""
        return frozenset(d.record.node_id for d in self._core.dead.entries())

    @property
    def health_score(self) -> int:
        """Lifeguard's local health: 0 is healthy."""
        return self._core.awareness.score

    @property
    def counters(self) -> dict[str, int]:
        """What was refused or dropped so far, by name."""
        return dict(self._core.counters)

    # --- datagrams -------------------------------------------------------

    def _datagram(self, event: DatagramReceived) -> None:
        core = self._core
        link = core.links.get(event.peer)
        if link is None:
            core.counters["datagrams_without_link"] += 1
            return
        try:
            message = codec.decode_datagram(event.data)
        except codec.WireError:
            core.counters["datagrams_refused"] += 1
            return
        if message.updates:
            self._hear_updates(event.peer, message.updates)
        match message:
            case Ping():
                self._figures.heard(link, message.load)
                core.send_probe(Ack, message.seq, link)
            case Ack():
                self._figures.heard(link, message.load)
                self._detector.acked(link, message)
            case PingRequest():
                self._detector.relay(event.peer, message)
            case RelayAck() | Nack():
                self._detector.relay_answered(message)
            case Gossip():
                self._figures.heard(link, message.load)

    def _hear_updates(self, source: NodeId, updates: tuple[msgspec.Raw, ...]) -> None:
        for part in updates:
            raw = bytes(part)
            match codec.decode_update(raw):
                case Claim() as claim:
                    self._membership.hear_claim(claim, source)
                case Accusation() as accusation:
                    self._suspicions.hear(accusation, raw, source)
                case Notice() as notice:
                    self._notices.hear(notice, raw)
                case None:
                    self._core.counters["updates_skipped"] += 1

    def _gossip_soon(self) -> None:
        if not self._gossiping:
            self._gossiping = True
            self._core.timers.at(self._core.now + _FIRST_GOSSIP_S, self._gossip)

    def _gossip(self, _: None) -> None:
        core = self._core
        peers = list(core.links)
        for peer in core.rng.sample(peers, min(len(peers), core.config.gossip_fanout)):
            updates = core.broadcasts.take(_UPDATE_BUDGET_BYTES)
            if updates:
                core.send(peer, Gossip(updates))
        # Alone there is nobody to tell: the next link begins anew.
        self._gossiping = bool(core.broadcasts) and bool(peers)
        if self._gossiping:
            core.timers.at(core.now + core.config.gossip_interval_s, self._gossip)

    # --- streams ---------------------------------------------------------

    def _request(self, event: RequestReceived) -> None:
        core = self._core
        if event.peer not in core.links:
            core.counters["requests_without_link"] += 1
            return
        try:
            message = codec.decode_stream(event.data)
        except codec.WireError:
            core.counters["frames_refused"] += 1
            return
        answer = self._answer(event.peer, message)
        if answer is None:
            core.counters["frames_refused"] += 1
        else:
            core.effects.append(SendAnswer(event.peer, event.request, codec.encode(answer)))

    def _answer(self, peer: NodeId, message: StreamMessage) -> StreamMessage | None:
        match message:
            case Sync():
                return self._anti_entropy.answer_sync(peer, message)
            case Exchange():
                return self._anti_entropy.answer_exchange(peer, message)
            case Check():
                return self._anti_entropy.answer_check(message.accused_incarnation)
            case _:
                return None

    def _answered(self, event: RequestAnswered) -> None:
        try:
            answer = codec.decode_stream(event.data)
        except codec.WireError:
            self._core.counters["frames_refused"] += 1
            answer = None
        self._core.answered(event.request, answer, False)

    # --- links and the table ---------------------------------------------

    def _link_up(self, link: Link) -> None:
        core = self._core
        if core.broadcasts:
            self._gossip_soon()
        self._detector.heard(link)
        self._figures.link_up(link)
        if link.peer in core.members:
            core.touch(link.peer)
        self._rejoin.met(link.peer)
        self._rejoin.check_alone()
        self._anti_entropy.link_up(link)

    def _link_down(self, event: LinkDown) -> None:
        core = self._core
        self._links.down(event)
        self._rejoin.check_alone()
        if core.leaving and not core.links:
            self._left(None)  # Who hears a farewell closes the link: that is its acknowledgement.

    def _joined(self, node_id: NodeId) -> None:
        self._links.pursue_soon()
        self._rejoin.remember_soon()

    def _newer(self, node_id: NodeId) -> None:
        """It lives under a higher incarnation: what was seen of the life before is no evidence."""
        self._ports.gone(node_id)
        self._suspicions.newer(node_id)

    def _gone(self, node_id: NodeId) -> None:
        self._suspicions.gone(node_id)
        self._ports.gone(node_id)
        self._links.pursue_soon()
        self._rejoin.remember_soon()
        self._rejoin.check_alone()

    def _revoked(self, event: PeerRevoked) -> None:
        self._membership.revoke(event.peer)
        self._rejoin.forget(event.peer)
        self._rejoin.check_alone()

    def _stalled(self, late_s: float) -> None:
        core = self._core
        core.stalled_at = core.now
        if late_s > core.config.probe_interval_s:
            core.story(
                "stalled", core.self_id, f"this node stood still for {late_s:.1f} s", "warning"
            )
        self._detector.stalled()
        self._suspicions.stalled()

    # --- about this node -------------------------------------------------

    def _announce(self, event: AnnouncementChanged) -> None:
        core = self._core
        if event.announcement == core.me.body.announcement or core.leaving:
            return
        self._say(event.announcement)

    def _renew(self, event: CredentialRenewed) -> None:
        core = self._core
        if event.credential == core.identity.credential or core.leaving:
            return
        core.identity = replace(core.identity, credential=event.credential)
        self._say(core.me.body.announcement)

    def _say(self, announcement: Announcement) -> None:
        core = self._core
        incarnation, version = core.me.order
        core.sign_me(announcement, incarnation, version + 1)
        core.spread(core.self_id, core.me.update)

    def _leave(self, _: LeaveRequested) -> None:
        core = self._core
        if core.leaving:
            return
        core.leaving = True
        incarnation, version = core.me.order
        core.sign_me(core.me.body.announcement, incarnation, version + 1, left=True)
        step = core.config.leave_linger_s / _FAREWELLS
        core.flood(core.me.update)
        for farewell in range(1, _FAREWELLS):
            core.timers.at(core.now + farewell * step, core.flood, core.me.update)
        core.timers.at(core.now + core.config.leave_linger_s, self._left)

    def _left(self, _: None) -> None:
        if not self._has_left:
            self._has_left = True
            self._core.effects.append(LeaveFinished())
