"""All connections between this node and one peer, as one thing to send on.

Decides which of them is in use (`primary`): both ends come to the same choice without asking. A
connection that is not in use ends without any effect on the one that is. When aioquic's limit of
streams is reached, a further connection is dialled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NewType

from nodes.mesh.ids import NodeId
from nodes.runtime.address import Address
from nodes.runtime.connection import PeerConnection
from nodes.runtime.credentials import Role
from nodes.runtime.greeting import Hello
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError

SILENT_S = 1.0
"""A connection on which nothing came for so long gives way to a new one, whoever dialled: perhaps only this
end still holds it. If the other end holds it too, each sends on its own choice, and both arrive."""

LinkNumber = NewType("LinkNumber", int)
"""One connection in this process; never used twice."""


@dataclass(eq=False, slots=True)
class Strand:
    """One connection of a link."""

    connection: PeerConnection
    number: LinkNumber
    hello: Hello
    """The other side's."""
    extra: bool = False
    """True: dialled for more streams only, by whichever side."""
    draining_since_s: float | None = None
    """Loop time since when it takes no new streams; None: it does."""
    idle_since_s: float | None = None
    """Loop time since when it has had no stream, as last looked at; None: it had one."""

    @property
    def has_room(self) -> bool:
        """True when a new stream may be opened on it."""
        return self.draining_since_s is None and self.connection.has_room


def stays_in_use(old: Strand, new: Strand, own_id: NodeId, peer_id: NodeId) -> bool:
    """Return whether `old` stays in use when `new` is there, too. Both ends come to the same answer.

    A new process of the peer, or the same side dialling again (its address changed, its path broke),
    replaces what was. Of two that were dialled crosswise the one dialled by the lower id stays.
    """
    if old.hello.instance != new.hello.instance:
        return False
    if old.connection.dialled == new.connection.dialled:
        return False
    return old.connection.dialled == (own_id < peer_id)


class Link:
    """The way to one peer. Usable while `is_up`; a new `Link` is made when the peer comes back."""

    def __init__(
        self, peer_id: NodeId, role: Role, dial_more: Callable[["Link"], Awaitable[None]]
    ) -> None:
        self.peer_id = peer_id
        self.role = role
        self.strands: list[Strand] = []
        self.primary: Strand | None = None
        self.last_used_s = asyncio.get_running_loop().time()
        """Loop time when a stream was last opened or accepted."""
        self._dial_more = dial_more
        self._dialling = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Link({self.peer_id[:12]}, {len(self.strands)} connections)"

    @property
    def is_up(self) -> bool:
        """True while something can be sent."""
        return self.primary is not None and self.primary.connection.is_open

    @property
    def number(self) -> LinkNumber:
        """The number of the connection in use."""
        assert self.primary is not None
        return self.primary.number

    @property
    def dialled(self) -> bool:
        """True when this node dialled the connection in use."""
        assert self.primary is not None
        return self.primary.connection.dialled

    @property
    def rtt_s(self) -> float | None:
        """QUIC's smoothed round trip; None when unknown."""
        return self.primary.connection.rtt_s if self.primary else None

    @property
    def active_streams(self) -> int:
        """Streams open now, over all its connections."""
        return sum(len(strand.connection.streams) for strand in self.strands)

    @property
    def clock_s(self) -> float:
        """The peer's Unix time when it greeted; for `doctor`."""
        return self.primary.hello.clock_s if self.primary else 0.0

    def listen_address(self) -> Address | None:
        """Return where the peer can be dialled, as seen from here; None when it cannot or is unknown."""
        if self.primary is None or not self.primary.hello.listen_port:
            return None
        place = self.primary.connection.remote_address
        if place is None:
            return None
        host = place[0][7:] if place[0].startswith("::ffff:") else place[0]
        return Address(host, self.primary.hello.listen_port)

    def send_datagram(self, content: bytes) -> bool:
        """Send without any promise; return False when it was dropped on this side."""
        return self.primary is not None and self.primary.connection.send_datagram(content)

    async def open_stream(self, kind: str) -> Stream:
        """Return a new stream, on a further connection when those there are full.

        Raises:
            StreamAbortedError: the link is down, or as many streams as it can carry are open.
        """
        strand = self._with_room()
        if strand is None and self.is_up:
            async with self._dialling:
                strand = self._with_room()
                if strand is None:
                    await self._dial_more(self)
                    strand = self._with_room()
        if strand is None:
            if self.is_up:
                raise StreamAbortedError(AbortCode.REFUSED, "too many streams to this peer")
            raise StreamAbortedError(AbortCode.LINK_LOST, "the link is down")
        self.last_used_s = asyncio.get_running_loop().time()
        strand.idle_since_s = None
        return strand.connection.open_stream(kind)

    def _with_room(self) -> Strand | None:
        if self.primary is not None and self.primary.has_room:
            return self.primary
        return next((strand for strand in self.strands if strand.has_room), None)

    # --- for the transport ------------------------------------------------------------------------

    def add(self, strand: Strand, own_id: NodeId, now_s: float) -> Strand | None:
        """Take a connection in; return the one that lost its place in use to it, if any."""
        self.strands.append(strand)
        old = self.primary
        if old is None or not old.connection.is_open:
            self.primary = strand
            return None
        if strand.extra and strand.hello.instance == old.hello.instance:
            return None
        silent_s = now_s - old.connection.last_received_s
        if silent_s < SILENT_S and stays_in_use(old, strand, own_id, self.peer_id):
            strand.draining_since_s = now_s
            return None
        self.primary = strand
        old.draining_since_s = now_s
        return old

    def remove(self, connection: PeerConnection) -> bool:
        """Forget a connection that has ended; return whether it was the one in use.

        Another open one then takes its place; when there is none, the link is down.
        """
        self.strands = [s for s in self.strands if s.connection is not connection]
        if self.primary is None or self.primary.connection is not connection:
            return False
        rest = [s for s in self.strands if s.connection.is_open]
        rest.sort(key=lambda s: (s.draining_since_s is not None, -s.number))
        self.primary = rest[0] if rest else None
        if self.primary is not None:
            self.primary.draining_since_s = None
        return True
