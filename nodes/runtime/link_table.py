"""All links of a node and the connections they are made of: who is in use, who has drained, who is gone.

Decides which connection of a pair is used and when a spare one is closed. A connection that ends takes
away only itself. Knows no sockets and no dialling.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from nodes.mesh.ids import NodeId
from nodes.runtime.address import Address
from nodes.runtime.connection import (
    CLOSE_NORMAL,
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    CLOSE_SHUTDOWN,
    PeerConnection,
)
from nodes.runtime.counters import Counted, Counters
from nodes.runtime.credentials import CredentialError
from nodes.runtime.greeting import Hello
from nodes.runtime.link import Link, LinkNumber, Strand
from nodes.runtime.tasks import TaskSet
from nodes.runtime.transport_events import LinkEnd, TransportEvents
from nodes.runtime.transport_settings import TransportSettings
from nodes.runtime.trust import Trust

SWEEP_S = 0.5
EXTRA_IDLE_S = 30.0
"""A further connection without streams for so long is closed by the side that dialled it."""
TWIN_PING_S = 1.0

TWIN = "twin"
"""The word with which a connection is ended to the later of two processes with one key."""


class LinkTable:
    """Peer id -> link, and connection -> its place in a link."""

    def __init__(
        self,
        trust: Trust,
        events: TransportEvents,
        counters: Counters,
        tasks: TaskSet,
        settings: TransportSettings,
        dial_more: Callable[[Link], Awaitable[None]],
    ) -> None:
        self.links: dict[NodeId, Link] = {}
        self.strands: dict[PeerConnection, tuple[Link, Strand]] = {}
        self._trust = trust
        self._events = events
        self._counters = counters
        self._tasks = tasks
        self._settings = settings
        self._dial_more = dial_more
        self._numbers = itertools.count(1)
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, connection: PeerConnection, theirs: Hello, *, extra: bool) -> Link:
        """Return the link of a greeted connection's peer, the connection now in it; a change is told."""
        assert connection.peer is not None and connection.peer.credential is not None
        now_s = asyncio.get_running_loop().time()
        link = self.links.get(connection.peer_id)
        if link is None:
            link = Link(connection.peer_id, connection.peer.credential.role, self._dial_more)
            self.links[connection.peer_id] = link
        strand = Strand(connection, LinkNumber(next(self._numbers)), theirs, extra)
        before = link.primary
        self.strands[connection] = (link, strand)
        replaced = link.add(strand, self._trust.node_id, now_s)
        if replaced is not None and replaced.hello.instance != theirs.instance:
            self._tasks.spawn(self._end_stale(link, replaced, strand))
        connection.on_socket_error = lambda error: self._socket_error(link, connection, error)
        self._arm_sweeper()
        if link.primary is not before:
            self._events.link_up(link)
        return link

    def remove(self, connection: PeerConnection, reason: str) -> None:
        """Forget a connection that has ended; tell only what that changes."""
        known = self.strands.pop(connection, None)
        if known is None:
            return
        link, strand = known
        orderly = connection.end_code in (CLOSE_NORMAL, CLOSE_SHUTDOWN) and reason != "Idle timeout"
        if not orderly:
            self._counters.add(Counted.CONNECTIONS_LOST)
        if not link.remove(connection) or self._closed:
            return
        if link.is_up:
            self._events.link_up(link)
            return
        if self.links.get(link.peer_id) is link:
            del self.links[link.peer_id]
        self._events.link_down(
            link, strand.number, LinkEnd.CLOSED if orderly else LinkEnd.LOST, reason
        )

    def recheck(self) -> None:
        """Close the links of peers that are no longer admitted: revoked, or of an ended epoch."""
        for connection in tuple(self.strands):
            assert connection.peer is not None
            try:
                self._trust.admit(connection.peer_id, connection.peer.credential)
            except CredentialError as error:
                connection.end(CLOSE_REFUSED, error.code)

    def close(self) -> None:
        """End every connection; nothing is told any more."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self.strands):
            connection.end(CLOSE_SHUTDOWN, "the node stops")
        self.links.clear()

    async def _end_stale(self, link: Link, old: Strand, new: Strand) -> None:
        """End the connection of an earlier process of the peer; if it still answers, there are two.

        Then the later one gives way: it is told why, and the earlier one stays what it was.
        """
        try:
            async with asyncio.timeout(TWIN_PING_S):
                await old.connection.ping()
            twin = old.connection.is_open
        except (TimeoutError, ConnectionError):
            twin = False
        if not twin:
            old.connection.end(CLOSE_REPLACED, "another process of this node has taken over")
            return
        self._counters.add(Counted.TWINS_SEEN)
        self._events.twin_seen(link.peer_id, "two running processes use this node's key")
        for strand in tuple(link.strands):
            if strand.hello.instance == new.hello.instance:
                strand.connection.end(CLOSE_REFUSED, TWIN)

    def _socket_error(self, link: Link, connection: PeerConnection, error: OSError) -> None:
        place = connection.remote_address
        in_use = link.primary is not None and link.primary.connection is connection
        if isinstance(error, ConnectionRefusedError) and place is not None and in_use:
            self._events.port_refused(link, Address(*place))

    def _arm_sweeper(self) -> None:
        if self._sweeper is None and not self._closed:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Close what has drained and what is spare."""
        self._sweeper = None
        now_s = asyncio.get_running_loop().time()
        for connection, (link, strand) in tuple(self.strands.items()):
            if strand is link.primary or not connection.dialled:
                continue
            if connection.streams:
                strand.idle_since_s = None
            elif strand.idle_since_s is None:
                strand.idle_since_s = now_s
            if self._is_done(strand, now_s):
                connection.end(CLOSE_NORMAL, "not in use")
        if self.strands:
            self._arm_sweeper()

    def _is_done(self, strand: Strand, now_s: float) -> bool:
        idle_s = 0.0 if strand.idle_since_s is None else now_s - strand.idle_since_s
        if strand.draining_since_s is None:
            return idle_s >= EXTRA_IDLE_S
        # However long its streams take: a path that died under them ends by the idle timeout.
        drained_s = now_s - strand.draining_since_s
        return idle_s > 0 and drained_s >= self._settings.drain_min_s
