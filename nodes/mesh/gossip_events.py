"""What the network tells the gossip half of the mesh. Past tense; the input of `GossipNode.handle`.

Everything that arrives has been authenticated by the transport: a `peer` is an id proven inside the
handshake, with a valid credential of role `full`. Links of clients never reach the core, which is
why a passive client leaves no trace (scenario 15). Bytes are still hostile: a member may be broken.

Source: SWIM section 4 (probes), RFC 9000 (links), docs/gossip.md (the boundary in one table).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from nodes.mesh.announcement import Announcement
from nodes.mesh.events import TimePassed
from nodes.mesh.ids import NodeId

LinkId = NewType("LinkId", int)
"""One connection of this process; never used twice, so that the end of an old one is told apart."""

RequestId = NewType("RequestId", int)
"""One request on a stream. Numbers of `SendRequest` and of `RequestReceived` are separate."""


class LinkEnd(StrEnum):
    """Why a link is gone."""

    CLOSED = "closed"
    """Either end closed it in order; says nothing about the peer's life."""
    LOST = "lost"
    """It ended with an error or a timeout: evidence, to be verified."""
    REPLACED = "replaced"
    """The other of two simultaneous connections was kept."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a node can be dialled. `node_id` None: whoever answers there with a valid credential."""

    node_id: NodeId | None
    addresses: tuple[str, ...]
    """``host:port`` or ``[v6]:port``, tried at once."""


@dataclass(frozen=True, slots=True)
class JoinRequested:
    """The operator (or a token) names contacts. Forgets the death of those it names."""

    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link to a full member is ready in both directions. Replaces an earlier link to that peer."""

    peer: NodeId
    link: LinkId
    dialled: bool
    """True: this node dialled it; the dialling end starts the first sync."""
    address: str = ""
    """The peer's address as seen by the transport; refused ports count only for it."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A link ended. Ignored unless `link` is the peer's current one."""

    peer: NodeId
    link: LinkId
    reason: LinkEnd


@dataclass(frozen=True, slots=True)
class LinkIdle:
    """No request stream has used the link for `GossipConfig.link_idle_s`; repeated while it lasts."""

    peer: NodeId
    link: LinkId


@dataclass(frozen=True, slots=True)
class DialFailed:
    """An `OpenLink` came to nothing. `contact` is the effect's, unchanged."""

    contact: Contact
    refused: bool
    """True: a machine answered that the port is closed, on every address that was tried."""


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """A QUIC DATAGRAM frame from a peer."""

    peer: NodeId
    data: bytes


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A peer sent a gossip request on a stream; answered by `SendAnswer` with the same number."""

    peer: NodeId
    request: RequestId
    data: bytes


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """The whole answer to a `SendRequest`."""

    request: RequestId
    data: bytes


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A `SendRequest` got no answer: no link could be opened, the stream broke, or its time is up."""

    request: RequestId
    refused: bool = False
    """True: the peer's machine answered that the port is closed."""


@dataclass(frozen=True, slots=True)
class PortRefused:
    """The peer's machine said that the port is closed (ICMP, seen on a connected UDP socket).

    Sent for `ProbePort`, and unasked where the transport notices by itself. One is a hint, a second
    one, asked for, is the confirmation.
    """

    peer: NodeId
    address: str


@dataclass(frozen=True, slots=True)
class PeerUseFailed:
    """A request through the peer failed in transport (scenario 11, on use). Starts verification."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class PeerRevoked:
    """The runtime verified a revocation by the mesh's key. The peer is dropped and never comes back."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class AnnouncementChanged:
    """What this node says of itself has changed; equal content is ignored (no regossip)."""

    announcement: Announcement


@dataclass(frozen=True, slots=True)
class CredentialRenewed:
    """This node's credential was signed anew (half its life is over, or a new epoch): spread it.

    Others judge a record by the credential in it when they learn it, so a node that never hands in its
    new one cannot be learnt by newcomers once the old one has expired. Equal content is ignored.
    """

    credential: bytes


@dataclass(frozen=True, slots=True)
class LoadChanged:
    """Fresh load figures, opaque to gossip, at most `limits.LOAD_BYTES_MAX`; newest wins.

    May come as often as it likes: linked members are told at most every `GossipConfig.load_interval_s`,
    and of a load that has not changed not at all.
    """

    load: bytes


@dataclass(frozen=True, slots=True)
class NoticeIssued:
    """This node has something for everyone: a revocation, a new epoch, a model's tombstone."""

    topic: str
    """``<kind>/<subject>``, such as ``drop/GLM-4.7-Flash``; one notice per topic, newest wins."""
    version: int
    """Orders the notices of one topic: Unix milliseconds."""
    body: bytes
    """Signed by whom it must be; judged by the injected `accept_notice`."""
    expires_unix_s: int


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """This node leaves cleanly. Answered by `LeaveFinished` within `leave_linger_s`."""


GossipEvent = (
    JoinRequested
    | LinkUp
    | LinkDown
    | LinkIdle
    | DialFailed
    | DatagramReceived
    | RequestReceived
    | RequestAnswered
    | RequestFailed
    | PortRefused
    | PeerUseFailed
    | PeerRevoked
    | AnnouncementChanged
    | CredentialRenewed
    | LoadChanged
    | NoticeIssued
    | LeaveRequested
    | TimePassed
)
