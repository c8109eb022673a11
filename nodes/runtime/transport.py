"""Authenticated links to peers: listen, dial, datagrams, streams. The I/O under the membership core.

Puts together the listening side (`listener`), dialling (`outbound`) and the links (`link_table`).
Decides nothing about membership: `TransportEvents` tells what happened, and whoever owns it says
what to do. Links of clients are told with their role. Sources: RFC 9000, RFC 9221, docs/transport.md.
"""

import asyncio
import logging
import socket
from collections.abc import Sequence

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from nodes.mesh.ids import NodeId
from nodes.runtime import greeting
from nodes.runtime.address import Address
from nodes.runtime.connection import CLOSE_NORMAL, CLOSE_REFUSED, CLOSE_SHUTDOWN, PeerConnection
from nodes.runtime.counters import Counted, Counters
from nodes.runtime.credentials import Credential, CredentialError
from nodes.runtime.dial_errors import DialError
from nodes.runtime.greeting import GreetingError, Hello
from nodes.runtime.link import Link
from nodes.runtime.link_table import LinkTable
from nodes.runtime.listener import Listener
from nodes.runtime.outbound import Outbound
from nodes.runtime.streams import AbortCode, Stream
from nodes.runtime.tasks import TaskSet
from nodes.runtime.transport_events import JoinHandler, TransportEvents
from nodes.runtime.transport_settings import (
    ALPN_JOIN,
    STREAMS_MAX,
    TransportSettings,
    server_configuration,
)
from nodes.runtime.trust import Trust

_log = logging.getLogger(__name__)
# aioquic warns at each refused handshake: anybody could fill the log. They are counted instead.
logging.getLogger("quic").setLevel(logging.CRITICAL)
JOIN_LINGER_S = 1.0
"""After the one exchange of a joining connection: the answer needs a moment to arrive."""


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
        self._events = events
        self._software = software
        self._join_handler = join_handler
        self._instance = instance
        self._listener: Listener | None = None
        self._tasks = TaskSet()
        self._outbound = Outbound(
            trust, self, self.settings, self.counters, self._hello, self._register, self._met_own_id
        )
        self._table = LinkTable(
            trust, events, self.counters, self._tasks, self.settings, self._dial_more
        )
        self._early: dict[PeerConnection, list[Stream]] = {}
        """Proven connections whose greeting is not done here, and the streams that wait for it."""
        self._closed = False

    @property
    def links(self) -> dict[NodeId, Link]:
        """The links that are up, by peer."""
        return self._table.links

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
        return self._listener.port

    @property
    def listen_port(self) -> int:
        """The UDP port where others can dial this node; 0: it does not listen."""
        return self._listener.port if self._listener is not None else 0

    @property
    def connections(self) -> int:
        """Connections of all links, and those still being proven."""
        pending = len(self._listener.half_open) if self._listener is not None else 0
        return len(self._table.strands) + pending

    # --- dialling and closing ---------------------------------------------------------------------

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
        link = self.links.get(expected) if expected is not None else None
        if link is not None and link.is_up and not fresh:
            return link
        return await self._outbound.dial(addresses, expected, timeout_s)

    def close_link(self, link: Link, reason: str) -> None:
        """Close all connections of a link; `link_down` is told before this returns."""
        for strand in tuple(link.strands):
            strand.connection.end(CLOSE_NORMAL, reason)

    def recheck(self) -> None:
        """Close the links of peers that are no longer admitted: revoked, or of an ended epoch."""
        self._table.recheck()

    async def close(self) -> None:
        """Close everything; nothing is accepted or told afterwards."""
        self._closed = True
        await self._outbound.close()
        self._table.close()
        for connection in tuple(self._early):
            connection.end(CLOSE_SHUTDOWN, "the node stops")
        await self._tasks.cancel()
        if self._listener is not None:
            self._listener.close()

    # --- ConnectionOwner --------------------------------------------------------------------------

    def proven(self, connection: PeerConnection) -> None:
        """A handshake is complete on both sides."""
        self._early[connection] = []
        self._outbound.proven(connection)
        if self._listener is not None:
            self._listener.settled(connection)

    def stream_accepted(self, connection: PeerConnection, stream: Stream) -> None:
        """A stream was opened by the peer: greeting, join or ordinary."""
        assert connection.peer is not None
        known = self._table.strands.get(connection)
        if connection.peer.alpn == ALPN_JOIN:
            self._tasks.spawn(self._join(connection, stream))
        elif known is not None:
            link, strand = known
            link.last_used_s = asyncio.get_running_loop().time()
            strand.idle_since_s = None
            self._tasks.spawn(self._serve(link, stream))
        elif stream.kind == greeting.HELLO_KIND and not connection.dialled:
            self._tasks.spawn(self._answer_greeting(connection, stream))
        elif len(self._early.get(connection, ())) < STREAMS_MAX:
            self._early.setdefault(connection, []).append(stream)

    def datagram_received(self, connection: PeerConnection, content: bytes) -> None:
        """A datagram came; before the greeting it is dropped, as the network might."""
        known = self._table.strands.get(connection)
        if known is not None:
            self._events.datagram(known[0], content)

    def ended(self, connection: PeerConnection, reason: str) -> None:
        """A connection is over, in whatever state it was."""
        self._early.pop(connection, None)
        if self._listener is not None:
            self._listener.forget(connection)
        self._outbound.ended(connection, reason)
        self._table.remove(connection, reason)

    # --- inner ------------------------------------------------------------------------------------

    def _accepted(self, quic: QuicConnection) -> PeerConnection:
        def admission(node_id: NodeId, credential: Credential | None, alpn: str) -> None:
            if self.trust.is_revoked(node_id):
                raise CredentialError("node_revoked")
            if alpn == ALPN_JOIN and self._join_handler is not None:
                return
            self.trust.admit(node_id, credential)

        return PeerConnection(quic, self, admission, self.settings, self.counters)

    def _refresh(self, configuration: QuicConfiguration) -> None:
        configuration.certificate = self.trust.certificate()

    def _hello(self, extra: bool) -> Hello:
        return greeting.hello(
            self._instance, extra=extra, listen_port=self.listen_port, software=self._software
        )

    async def _dial_more(self, link: Link) -> None:
        try:
            await self._outbound.dial_more(link)
        except DialError as error:
            _log.warning("no further connection to %s: %s", link.peer_id[:12], error)

    async def _answer_greeting(self, connection: PeerConnection, stream: Stream) -> None:
        try:
            theirs = await greeting.answer(
                stream, self._hello(False), self.settings.handshake_timeout_s
            )
        except GreetingError as error:
            connection.end(CLOSE_REFUSED, str(error))
            return
        if connection.peer_id == self.trust.node_id:
            self._met_own_id(connection, theirs)
        elif connection.is_open:
            self._register(connection, theirs, theirs.extra)

    def _register(self, connection: PeerConnection, theirs: Hello, extra: bool) -> Link:
        """Make a greeted connection part of its peer's link."""
        if not connection.is_open or self._closed:
            connection.end(CLOSE_SHUTDOWN, "the node stops")
            raise DialError({})
        link = self._table.add(connection, theirs, extra=extra)
        for stream in self._early.pop(connection, []):
            self.stream_accepted(connection, stream)
        return link

    def _met_own_id(self, connection: PeerConnection, theirs: Hello) -> str:
        """Judge a connection to this node's own key: itself by its own address, or a second process.

        Only the dialling side ends it: the other one's greeting has to arrive first.
        """
        word = "own_id" if theirs.instance == self._instance else "twin"
        if connection.dialled:
            connection.end(CLOSE_REFUSED, word)
        if word == "twin":
            self.counters.add(Counted.TWINS_SEEN)
            self._events.twin_seen(
                self.trust.node_id, "another running process uses this node's own key"
            )
        return word

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
            asyncio.get_running_loop().call_later(
                JOIN_LINGER_S, connection.end, CLOSE_NORMAL, "done"
            )
