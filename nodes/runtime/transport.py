"""Authenticated links to peers: listen, dial, datagrams, streams. The I/O under the membership core.

Decides which connections exist for a pair and which one is in use; decides nothing about membership:
`TransportEvents` tells what happened, and whoever owns it says what to do. Links of clients are told
with their role. Sources: RFC 9000, RFC 9221, docs/transport.md.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Protocol

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from nodes.mesh.ids import NodeId
from nodes.runtime import dialer, greeting
from nodes.runtime.address import Address
from nodes.runtime.connection import (
    CLOSE_NORMAL,
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    CLOSE_SHUTDOWN,
    PeerConnection,
)
from nodes.runtime.counters import Counted, Counters
from nodes.runtime.credentials import Credential, CredentialError, Role
from nodes.runtime.dial_errors import TIMED_OUT, AttemptError, DialError
from nodes.runtime.greeting import GreetingError, Hello
from nodes.runtime.link import Link, LinkNumber, Strand
from nodes.runtime.listener import Listener
from nodes.runtime.streams import AbortCode, Stream
from nodes.runtime.transport_settings import (
    ALPN_JOIN,
    ALPN_MESH,
    STREAMS_MAX,
    TransportSettings,
    client_configuration,
    server_configuration,
)
from nodes.runtime.trust import Trust

_log = logging.getLogger(__name__)
SWEEP_S = 1.0
EXTRA_IDLE_S = 30.0
"""A further connection without streams for so long is closed by the side that dialled it."""
DRAIN_MIN_S = 2.0
"""A connection that lost to its twin stays this long at least: packets may still be on their way."""
TWIN_PING_S = 1.0


class LinkEnd(StrEnum):
    """Why a link is gone."""

    CLOSED = "closed"
    """One of the two ends closed it in order."""
    LOST = "lost"
    """Silence, an error, or broken rules."""


class TransportEvents(Protocol):
    """Who is told. All calls but `stream` are plain functions and must not block."""

    def link_up(self, link: Link) -> None:
        """A link is ready, or another connection of it is in use now (its `number` says which)."""

    def link_down(self, link: Link, number: LinkNumber, reason: LinkEnd, text: str) -> None:
        """The link has no connection left; `number` is that of the last one."""

    def datagram(self, link: Link, content: bytes) -> None:
        """A datagram came."""

    async def stream(self, link: Link, stream: Stream) -> None:
        """The peer opened a stream. An exception aborts it; the end is the callee's to send."""

    def port_refused(self, link: Link, address: Address) -> None:
        """The peer's machine said, unasked, that the port of the link in use is closed."""

    def twin_seen(self, node_id: NodeId, text: str) -> None:
        """Two running processes use one key."""


JoinHandler = Callable[[Stream, NodeId, str], Awaitable[None]]
"""Serves one stream under `mesh-join/1`: the stream, the unknown id that holds it, its address."""


class Transport:
    """All links of this node. Made and used on one loop."""

    def __init__(
        self,
        trust: Trust,
        events: TransportEvents,
        settings: TransportSettings | None = None,
        *,
        software: str = "",
        join_handler: JoinHandler | None = None,
        instance: bytes = greeting.INSTANCE,
    ) -> None:
        self.trust = trust
        self.settings = settings or TransportSettings()
        self.counters = Counters()
        self.links: dict[NodeId, Link] = {}
        self._events = events
        self._software = software
        self._join_handler = join_handler
        self._instance = instance
        self._listener: Listener | None = None
        self._strands: dict[PeerConnection, tuple[Link, Strand]] = {}
        self._early: dict[PeerConnection, list[Stream]] = {}
        """Streams that came before the greeting was done here; they wait for it."""
        self._proving: dict[PeerConnection, asyncio.Future[None]] = {}
        self._dials: dict[NodeId, asyncio.Task[Link]] = {}
        self._dials_under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    # --- listening --------------------------------------------------------------------------------

    async def listen(self, sock: socket.socket) -> int:
        """Return the UDP port after starting to accept on this bound socket."""
        loop = asyncio.get_running_loop()
        configuration = server_configuration(
            self.trust.identity, self.trust.certificate(), self.settings
        )
        _, self._listener = await loop.create_datagram_endpoint(
            lambda: Listener(
                configuration, self._accepted, self._refresh, self.settings, self.counters
            ),
            sock=sock,
        )
        self._arm_sweeper()
        return self._listener.port

    @property
    def listen_port(self) -> int:
        """The UDP port where others can dial this node; 0: it does not listen."""
        return self._listener.port if self._listener is not None else 0

    @property
    def connections(self) -> int:
        """Connections of all links, and those still being proven."""
        pending = len(self._listener.half_open) if self._listener is not None else 0
        return len(self._strands) + pending

    # --- dialling ---------------------------------------------------------------------------------

    async def dial(
        self,
        addresses: Sequence[Address],
        expected: NodeId | None,
        timeout_s: float | None = None,
        *,
        fresh: bool = False,
    ) -> Link:
        """Return the link to `expected` (None: to whoever answers there, of this mesh).

        A link that is up is returned at once, unless `fresh` asks for a new connection, such as when
        an address changed; the new one then replaces the old. Dials to one peer are one dial.

        Raises:
            DialError: no address led there; `codes` says why for each.
        """
        if expected is not None:
            link = self.links.get(expected)
            if link is not None and link.is_up and not fresh:
                return link
            running = self._dials.get(expected)
            if running is not None:
                return await asyncio.shield(running)
        task = asyncio.ensure_future(self._dial(addresses, expected, timeout_s, extra=False))
        if expected is None:
            return await task
        self._dials[expected] = task
        task.add_done_callback(lambda _: self._dials.pop(expected, None))
        # One waiter that gives up must not end the dial of the others.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _dial(
        self,
        addresses: Sequence[Address],
        expected: NodeId | None,
        timeout_s: float | None,
        *,
        extra: bool,
    ) -> Link:
        self.counters.add(Counted.DIALS)
        limit_s = self.settings.dial_timeout_s if timeout_s is None else timeout_s
        configuration = client_configuration(
            self.trust.identity, self.trust.certificate(), self.settings, ALPN_MESH
        )
        hellos: dict[PeerConnection, Hello] = {}

        async def attempt(address: Address) -> PeerConnection:
            connection = await dialer.connect(
                address, configuration, lambda quic: self._dialling(quic, expected)
            )
            hellos[connection] = await self._greet(connection, extra=extra)
            return connection

        self._dials_under_way += 1
        try:
            places = await dialer.resolved(addresses)
            connection = await dialer.dial_any(
                places, attempt, self.settings.dial_stagger_s, limit_s
            )
        except DialError:
            self.counters.add(Counted.DIALS_FAILED)
            raise
        finally:
            self._dials_under_way -= 1
        self._arm_sweeper()
        return self._register(connection, hellos[connection], extra=extra)

    def _dialling(
        self, quic: QuicConnection, expected: NodeId | None
    ) -> tuple[PeerConnection, "asyncio.Future[None]"]:
        def admission(node_id: NodeId, credential: Credential | None, alpn: str) -> None:
            if node_id == self.trust.node_id:
                raise CredentialError("own_id")
            if expected is not None and node_id != expected:
                raise CredentialError("wrong_node")
            if self.trust.admit(node_id, credential).role is not Role.MEMBER:
                raise CredentialError("not_a_member")

        connection = PeerConnection(quic, self, admission, self.settings, self.counters)
        proven = asyncio.get_running_loop().create_future()
        self._proving[connection] = proven
        return connection, proven

    async def _greet(self, connection: PeerConnection, *, extra: bool) -> Hello:
        try:
            return await greeting.greet(
                connection.open_stream(greeting.HELLO_KIND),
                self._hello(extra=extra),
                self.settings.handshake_timeout_s,
            )
        except GreetingError as error:
            reason = connection.end_reason
            connection.end(CLOSE_REFUSED, str(error))
            raise AttemptError(reason or str(error)) from error
        except asyncio.CancelledError:
            connection.end(CLOSE_NORMAL, "another address was faster")
            raise

    async def _dial_more(self, link: Link) -> None:
        """Add a connection to a link whose connections are full; quietly does nothing at the bound."""
        usable = [s for s in link.strands if s.connection.is_open]
        if len(usable) >= self.settings.connections_per_link_max or link.primary is None:
            return
        primary = link.primary.connection
        place = primary.remote_address if primary.dialled else None
        address = Address(*place) if place else link.listen_address()
        if address is None:
            return
        try:
            await self._dial([address], link.peer_id, None, extra=True)
        except DialError as error:
            _log.warning("no further connection to %s: %s", link.peer_id[:12], error)

    # --- closing ----------------------------------------------------------------------------------

    def close_link(self, link: Link, reason: str) -> None:
        """Close all connections of a link; `link_down` is told before this returns."""
        for strand in tuple(link.strands):
            strand.connection.end(CLOSE_NORMAL, reason)

    def recheck(self) -> None:
        """Close the links of peers that are no longer admitted: revoked, or of an ended epoch."""
        for connection in tuple(self._strands):
            assert connection.peer is not None
            try:
                self.trust.admit(connection.peer_id, connection.peer.credential)
            except CredentialError as error:
                connection.end(CLOSE_REFUSED, error.code)

    async def close(self) -> None:
        """Close everything; nothing is accepted or told afterwards."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for dial in tuple(self._dials.values()):
            dial.cancel()
        for connection in {*self._strands, *self._proving, *self._early}:
            connection.end(CLOSE_SHUTDOWN, "the node stops")
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    # --- ConnectionOwner --------------------------------------------------------------------------

    def proven(self, connection: PeerConnection) -> None:
        """A handshake is complete on both sides."""
        waiting = self._proving.pop(connection, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        if self._listener is not None:
            self._listener.settled(connection)
        self._early[connection] = []

    def stream_accepted(self, connection: PeerConnection, stream: Stream) -> None:
        """A stream was opened by the peer: greeting, join or ordinary."""
        assert connection.peer is not None
        known = self._strands.get(connection)
        if connection.peer.alpn == ALPN_JOIN:
            self._spawn(self._join(connection, stream))
        elif known is not None:
            link, strand = known
            link.last_used_s = asyncio.get_running_loop().time()
            strand.idle_since_s = None
            self._spawn(self._serve(link, stream))
        elif stream.kind == greeting.HELLO_KIND and not connection.dialled:
            self._spawn(self._answer_greeting(connection, stream))
        elif len(self._early.get(connection, ())) < STREAMS_MAX:
            self._early.setdefault(connection, []).append(stream)

    def datagram_received(self, connection: PeerConnection, content: bytes) -> None:
        """A datagram came; before the greeting it is dropped, as the network might."""
        known = self._strands.get(connection)
        if known is not None:
            self._events.datagram(known[0], content)

    def ended(self, connection: PeerConnection, reason: str) -> None:
        """A connection is over, in whatever state it was."""
        self._early.pop(connection, None)
        if self._listener is not None:
            self._listener.forget(connection)
        waiting = self._proving.pop(connection, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(AttemptError(_code_of(reason)))
        known = self._strands.pop(connection, None)
        if known is None:
            return
        link, strand = known
        orderly = connection.end_code in (CLOSE_NORMAL, CLOSE_SHUTDOWN) and reason != "Idle timeout"
        if not orderly:
            self.counters.add(Counted.CONNECTIONS_LOST)
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

    # --- inner ------------------------------------------------------------------------------------

    def _accepted(self, quic: QuicConnection) -> PeerConnection:
        def admission(node_id: NodeId, credential: Credential | None, alpn: str) -> None:
            if self.trust.is_revoked(node_id):
                raise CredentialError("node_revoked")
            if node_id == self.trust.node_id:
                self._own_id_seen()
                raise CredentialError("own_id")
            if alpn == ALPN_JOIN and self._join_handler is not None:
                return
            self.trust.admit(node_id, credential)

        return PeerConnection(quic, self, admission, self.settings, self.counters)

    def _refresh(self, configuration: QuicConfiguration) -> None:
        configuration.certificate = self.trust.certificate()

    def _hello(self, *, extra: bool) -> Hello:
        return greeting.hello(
            self._instance, extra=extra, listen_port=self.listen_port, software=self._software
        )

    async def _answer_greeting(self, connection: PeerConnection, stream: Stream) -> None:
        try:
            theirs = await greeting.answer(
                stream, self._hello(extra=False), self.settings.handshake_timeout_s
            )
        except GreetingError as error:
            connection.end(CLOSE_REFUSED, str(error))
            return
        if connection.is_open:
            self._register(connection, theirs, extra=theirs.extra)

    def _register(self, connection: PeerConnection, theirs: Hello, *, extra: bool) -> Link:
        """Make a greeted connection part of its peer's link, and tell of a change."""
        if not connection.is_open or self._closed:
            connection.end(CLOSE_SHUTDOWN, "the node stops")
            raise DialError({})
        assert connection.peer is not None
        credential = connection.peer.credential
        assert credential is not None
        now_s = asyncio.get_running_loop().time()
        link = self.links.get(connection.peer_id)
        if link is None:
            link = Link(connection.peer_id, credential.role, self._dial_more)
            self.links[connection.peer_id] = link
        strand = Strand(connection, LinkNumber(next(self._numbers)), theirs, extra)
        before = link.primary
        self._strands[connection] = (link, strand)
        replaced = link.add(strand, self.trust.node_id, now_s)
        if replaced is not None and replaced.hello.instance != theirs.instance:
            self._spawn(self._end_stale(link, replaced))
        connection.on_socket_error = lambda error: self._socket_error(link, connection, error)
        if link.primary is not before:
            self._events.link_up(link)
        for stream in self._early.pop(connection, []):
            self.stream_accepted(connection, stream)
        return link

    async def _end_stale(self, link: Link, old: Strand) -> None:
        """End the connection of an earlier process of the peer; if it still answers, there are two."""
        try:
            async with asyncio.timeout(TWIN_PING_S):
                await old.connection.ping()
        except (TimeoutError, ConnectionError):
            pass
        else:
            if old.connection.is_open:
                self.counters.add(Counted.TWINS_SEEN)
                self._events.twin_seen(link.peer_id, "two running processes use this node's key")
        old.connection.end(CLOSE_REPLACED, "another process of this node has taken over")

    def _own_id_seen(self) -> None:
        # While this node dials it may well reach itself (its own address in a token): no evidence.
        if not self._dials_under_way:
            self.counters.add(Counted.TWINS_SEEN)
            self._events.twin_seen(
                self.trust.node_id, "another running process uses this node's own key"
            )

    def _socket_error(self, link: Link, connection: PeerConnection, error: OSError) -> None:
        place = connection.remote_address
        in_use = link.primary is not None and link.primary.connection is connection
        if isinstance(error, ConnectionRefusedError) and place is not None and in_use:
            self._events.port_refused(link, Address(*place))

    async def _serve(self, link: Link, stream: Stream) -> None:
        try:
            await self._events.stream(link, stream)
        except ConnectionError as error:
            stream.abort(AbortCode.CANCELLED, str(error))
        except Exception:
            _log.exception("a stream of kind %s from %s failed", stream.kind, link.peer_id[:12])
            stream.abort(AbortCode.INTERNAL, "a fault at the other side")

    async def _join(self, connection: PeerConnection, stream: Stream) -> None:
        place = connection.remote_address
        if self._join_handler is None or place is None:
            connection.end(CLOSE_REFUSED, "no joins here")
            return
        try:
            async with asyncio.timeout(self.settings.join_timeout_s):
                await self._join_handler(stream, connection.peer_id, place[0])
        except (TimeoutError, ConnectionError) as error:
            stream.abort(AbortCode.CANCELLED, str(error))
        except Exception:
            _log.exception("a join of %s failed", connection.peer_id[:12])
            stream.abort(AbortCode.INTERNAL, "a fault at the other side")
        finally:
            # One exchange for each connection: the answer needs a moment to arrive, then it is over.
            asyncio.get_running_loop().call_later(1.0, connection.end, CLOSE_NORMAL, "done")

    def _arm_sweeper(self) -> None:
        if self._sweeper is None and not self._closed:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Close what has drained and what is spare."""
        self._sweeper = None
        now_s = asyncio.get_running_loop().time()
        for connection, (link, strand) in tuple(self._strands.items()):
            if strand is link.primary or not connection.dialled:
                continue
            if connection.streams:
                strand.idle_since_s = None
            elif strand.idle_since_s is None:
                strand.idle_since_s = now_s
            if self._is_done(strand, now_s):
                connection.end(CLOSE_NORMAL, "not in use")
        if self._strands or self._listener is not None:
            self._arm_sweeper()

    def _is_done(self, strand: Strand, now_s: float) -> bool:
        idle_s = 0.0 if strand.idle_since_s is None else now_s - strand.idle_since_s
        if strand.draining_since_s is None:
            return idle_s >= EXTRA_IDLE_S
        drained_s = now_s - strand.draining_since_s
        return drained_s >= self.settings.drain_s or (idle_s > 0 and drained_s >= DRAIN_MIN_S)

    def _spawn(self, coroutine: Awaitable[None]) -> None:
        """Run a coroutine; their number is bounded by the streams of all connections."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _code_of(reason: str) -> str:
    """Return the word for a failed attempt from the reason its connection ended with."""
    return TIMED_OUT if reason in ("no answer in time", "Idle timeout") else reason
