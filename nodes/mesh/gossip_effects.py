"""What the gossip half of the mesh wants done. Imperative; the only output of `GossipNode.handle`.

The driver carries these out in order. None of them is answered synchronously; what comes back is an
event of `gossip_events`, or nothing at all (a datagram may be lost).
"""

from dataclasses import dataclass
from enum import StrEnum

from nodes.mesh.announcement import Announcement
from nodes.mesh.gossip_events import Contact, LinkId, RequestId
from nodes.mesh.ids import NodeId


class MemberState(StrEnum):
    """What this node holds of a member."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    """Somebody could not reach it: routing ranks it last."""
    DEAD = "dead"
    LEFT = "left"
    """It said so itself."""


@dataclass(frozen=True, slots=True)
class MemberView:
    """One member as the rest of the node sees it. Replaced whole at every change."""

    node_id: NodeId
    state: MemberState
    rank_last: bool
    """True: suspect, or it missed this node's latest direct probe; use only as a last resort."""
    incarnation: int
    version: int
    announcement: Announcement
    rtt_s: float | None
    """Smoothed round trip of this node's own probes; None: never measured. Published when it has moved by
    a quarter, at most every `GossipConfig.load_interval_s`."""
    load: bytes = b""
    """The peer's latest load figures, as its `LoadChanged` had them; empty where there is no link to it.
    A change is published at most every `load_interval_s`, with version and incarnation as they were."""
    rtt_least_s: float | None = None
    """The shortest of those round trips: how far away the peer is, whatever it was busy with."""


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send on the peer's current link, in a DATAGRAM frame; dropped without a word if there is none."""

    peer: NodeId
    data: bytes


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Send on a fresh stream, dialling first where no link is open.

    Answered by `RequestAnswered` or `RequestFailed`, at the latest after `timeout_s`.
    """

    contact: Contact
    request: RequestId
    data: bytes
    timeout_s: float
    fresh: bool = False
    """True: over a new connection, even where a link is up. The link may be one that only this end still
    holds; whichever connection is in use afterwards, streams on the old one go on."""


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """Answer a `RequestReceived` and end its stream."""

    peer: NodeId
    request: RequestId
    data: bytes


@dataclass(frozen=True, slots=True)
class OpenLink:
    """Dial all addresses at once. Answered by `LinkUp` or `DialFailed`; a no-op if a link is up."""

    contact: Contact
    timeout_s: float


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Close this link, if it is still open, in order."""

    peer: NodeId
    link: LinkId
    reason: str


@dataclass(frozen=True, slots=True)
class ProbePort:
    """Send one packet to the address from a connected UDP socket. Answered by `PortRefused`, or not."""

    peer: NodeId
    address: str


@dataclass(frozen=True, slots=True)
class PublishMembers:
    """The table changed: these views replace the earlier ones; DEAD and LEFT are told once, then gone."""

    changed: tuple[MemberView, ...]


@dataclass(frozen=True, slots=True)
class RecordStory:
    """One line of history for people: "llama-box was declared dead after 2.1 s: ..."."""

    kind: str
    """A stable word: ``joined``, ``late``, ``suspected``, ``refuted``, ``died``, ``returned``,
    ``left``, ``restarted``, ``heartbeat``, ``twin_key``, ``stalled``, ``revoked``, ``notice_refused``."""
    peer: NodeId
    text: str
    level: str = "info"


@dataclass(frozen=True, slots=True)
class RememberContacts:
    """Keep these over a restart: where the mesh was last seen (scenario 12). Best first."""

    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class PublishNotice:
    """A notice (see `NoticeIssued`) that this node had not seen, already accepted."""

    topic: str
    version: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ReportTwin:
    """Another running process uses this node's key. The node cannot stay: say so and stop one."""

    text: str


@dataclass(frozen=True, slots=True)
class LeaveFinished:
    """The farewell has been said several times; links may be closed and the process may end."""


GossipEffect = (
    SendDatagram
    | SendRequest
    | SendAnswer
    | OpenLink
    | CloseLink
    | ProbePort
    | PublishMembers
    | RecordStory
    | RememberContacts
    | PublishNotice
    | ReportTwin
    | LeaveFinished
)
