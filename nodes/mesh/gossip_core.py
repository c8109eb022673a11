"""What the parts of `GossipNode` share: the table, the links, the clock's last word and the effects.

Holds facts and carries out the simple moves (send, publish, tell); decides nothing. Each fact has one
writer: `members` and `dead` are changed by `membership`, `links` by `links`, everything else by its part.
"""

import math
import random
from collections import Counter
from collections.abc import Callable

import msgspec

from nodes.mesh import codec, limits
from nodes.mesh.announcement import Announcement
from nodes.mesh.awareness import Awareness
from nodes.mesh.config import GossipConfig
from nodes.mesh.dead_peers import DeadPeers
from nodes.mesh.dissemination import Broadcasts
from nodes.mesh.gossip_effects import (
    GossipEffect,
    MemberState,
    MemberView,
    PublishMembers,
    RecordStory,
    SendDatagram,
    SendRequest,
)
from nodes.mesh.gossip_events import Contact, LinkId, RequestId
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import Ack, Gossip, Ping, StreamMessage
from nodes.mesh.neighbours import Neighbours
from nodes.mesh.records import NodeIdentity, Record, make_record
from nodes.mesh.timers import Timers

REQUESTS_MAX = 1_024
"""Requests of this node without an answer; the oldest counts as failed."""
_UPDATE_BUDGET_BYTES = limits.DATAGRAM_BYTES_MAX - 24
OnAnswer = Callable[[StreamMessage | None, bool], None]
"""(answer, refused): answer None when there was none; refused where the peer's port is closed."""


class Member:
    """One other node, as this one holds it."""

    __slots__ = ("late", "missed_probes", "record", "state")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.state = MemberState.ALIVE
        self.late = False
        """It missed this node's latest direct probe."""
        self.missed_probes = 0
        """In a row, of this node's."""


class Link:
    """One live link."""

    __slots__ = ("acked_at", "address", "dialled", "link", "load", "load_sends", "peer",
                 "rtt_least_s", "rtt_s", "rtt_shown_s")  # fmt: skip

    def __init__(self, peer: NodeId, link: LinkId, address: str, dialled: bool, now: float) -> None:
        self.peer = peer
        self.link = link
        self.address = address
        self.dialled = dialled
        self.acked_at = now
        """The latest proven round trip; the handshake is the first."""
        self.rtt_s: float | None = None
        self.rtt_least_s: float | None = None
        self.rtt_shown_s: float | None = None
        """As of its latest publication."""
        self.load = b""
        self.load_sends = 0
        """How often the present load is still to be sent to this peer."""


class Core:
    """The shared state of one node."""

    def __init__(self, identity: NodeIdentity, self_id: NodeId, config: GossipConfig,
                 rng: random.Random, now: float, unix_s: float) -> None:  # fmt: skip
        self.identity = identity
        self.self_id = self_id
        self.config = config
        self.rng = rng
        self.now = now
        self._unix_offset_s = unix_s - now
        self.timers = Timers()
        self.effects: list[GossipEffect] = []
        self.members: dict[NodeId, Member] = {}
        self.dead = DeadPeers(config.dead_expiry_s)
        self.links: dict[NodeId, Link] = {}
        self.revoked: set[NodeId] = set()
        self.last_address: dict[NodeId, str] = {}
        self.broadcasts = Broadcasts()
        self.awareness = Awareness(config.awareness_max)
        self.neighbours = Neighbours(
            self_id, self.members.keys(), config.full_mesh_peers_max, config.rings
        )
        self.counters: Counter[str] = Counter()
        """Things refused or dropped, by name, for /metrics."""
        self.load = b""
        self.stalled_at = -math.inf
        self.leaving = False
        self.me: Record
        self.table_hash = 0
        self.on_queued: Callable[[], None] = lambda: None
        self._dirty: dict[NodeId, None] = {}
        self._requests: dict[RequestId, OnAnswer] = {}
        self._last_request = 0
        self._flood_tokens = float(limits.URGENT_FLOODS_PER_S_MAX)
        self._flooded_at = now

    @property
    def size(self) -> int:
        """Nodes in the mesh as far as this one knows, itself included."""
        return len(self.members) + 1

    @property
    def unix_s(self) -> float:
        """Unix time by this node's clock, as it was at the start; a clock set since does not matter."""
        return self.now + self._unix_offset_s

    # --- saying ----------------------------------------------------------

    def sign_me(self, announcement: Announcement, incarnation: int, version: int,
                left: bool = False) -> None:  # fmt: skip
        """Put a new record of this node in the place of the old one."""
        old = getattr(self, "me", None)
        self.me = make_record(self.identity, announcement, incarnation, version, left)
        self.table_hash ^= self.me.hash62 ^ (old.hash62 if old else 0)

    def send_probe(self, kind: type[Ping] | type[Ack], seq: int, link: Link,
                   first: tuple[msgspec.Raw, ...] = ()) -> None:  # fmt: skip
        """Send a ping or ack with what rides on it."""
        updates = first
        load = b""
        if self.broadcasts:
            updates += self.broadcasts.take(
                _UPDATE_BUDGET_BYTES - 100 * len(first) - len(self.load)
            )
        if link.load_sends:
            link.load_sends -= 1
            load = self.load
        self.effects.append(SendDatagram(link.peer, codec.encode(kind(seq, updates, load))))

    def send(self, peer: NodeId, message: msgspec.Struct) -> None:
        """Send a datagram with nothing added."""
        self.effects.append(SendDatagram(peer, codec.encode(message)))

    def spread(self, subject: str, encoded: bytes, accuser: str = "") -> None:
        """Let the next datagrams and gossip rounds carry an update."""
        self.broadcasts.put(subject, encoded, accuser)
        self.on_queued()

    def flood(self, encoded: bytes, but: NodeId | None = None) -> None:
        """Tell every linked member at once. Over the rate it is left to ordinary gossip."""
        rate = float(limits.URGENT_FLOODS_PER_S_MAX)
        self._flood_tokens = min(rate, self._flood_tokens + (self.now - self._flooded_at) * rate)
        self._flooded_at = self.now
        if self._flood_tokens < 1:
            return
        self._flood_tokens -= 1
        data = codec.encode(Gossip((msgspec.Raw(encoded),)))
        self.effects.extend(SendDatagram(peer, data) for peer in self.links if peer != but)

    def request(self, contact: Contact, message: msgspec.Struct, timeout_s: float,
                on_answer: OnAnswer, fresh: bool = False) -> None:  # fmt: skip
        """Ask over a stream (`fresh`: of a new connection); `on_answer` is called once."""
        if len(self._requests) >= REQUESTS_MAX:
            oldest = next(iter(self._requests))
            self.counters["requests_dropped"] += 1
            self.answered(oldest, None, False)
        self._last_request += 1
        request = RequestId(self._last_request)
        self._requests[request] = on_answer
        self.effects.append(SendRequest(contact, request, codec.encode(message), timeout_s, fresh))

    def answered(self, request: RequestId, answer: StreamMessage | None, refused: bool) -> None:
        """Hand an answer, or its absence, to who asked. Unknown numbers are late ones: ignored."""
        on_answer = self._requests.pop(request, None)
        if on_answer is not None:
            on_answer(answer, refused)

    # --- telling the rest of the node ------------------------------------

    def contact(self, node_id: NodeId) -> Contact:
        """Return where a member, or one of the dead, can be dialled."""
        member = self.members.get(node_id)
        record = member.record if member else None
        if record is None:
            dead = self.dead.get(node_id)
            record = dead.record if dead else None
        addresses = record.body.announcement.addresses if record else ()
        last = self.last_address.get(node_id)
        if last and last not in addresses:
            addresses = (last, *addresses)
        return Contact(node_id, addresses)

    def touch(self, node_id: NodeId) -> None:
        """Publish this member's view at the end of the event."""
        self._dirty[node_id] = None

    def story(self, kind: str, peer: NodeId, text: str, level: str = "info") -> None:
        """Tell one line of history."""
        self.effects.append(RecordStory(kind, peer, text, level))

    def name(self, node_id: NodeId) -> str:
        """Return what people call a node: its name, else the start of its id."""
        if node_id == self.self_id:
            return self.me.body.announcement.name or node_id[:8]
        member = self.members.get(node_id)
        named = member.record.body.announcement.name if member else ""
        return named or node_id[:8]

    def view(self, member: Member) -> MemberView:
        """Return how the rest of the node sees a member."""
        record = member.record
        link = self.links.get(record.node_id)
        return MemberView(
            node_id=record.node_id,
            state=member.state,
            rank_last=member.late or member.state is not MemberState.ALIVE,
            incarnation=record.claim.incarnation,
            version=record.claim.version,
            announcement=record.body.announcement,
            rtt_s=link.rtt_s if link else None,
            load=link.load if link else b"",
            rtt_least_s=link.rtt_least_s if link else None,
        )

    def take_effects(self, departed: tuple[MemberView, ...] = ()) -> list[GossipEffect]:
        """Return the effects of this event, with the views that changed."""
        if self._dirty or departed:
            views = [self.view(self.members[i]) for i in self._dirty if i in self.members]
            views.extend(departed)
            self._dirty.clear()
            if views:
                self.effects.append(PublishMembers(tuple(views)))
        effects, self.effects = self.effects, []
        return effects
