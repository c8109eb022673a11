"""The connections to and from peers: dialled, accepted, lent to tunnels, and closed when idle.

Decides whether a connection may exist (bounds), which one a tunnel gets (a free one, else a new one),
and that a peer which is no longer admitted loses all of its. What goes through them is not known here.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator

from nodes.mesh.ids import NodeId
from nodes.runtime.credentials import CredentialError
from nodes.runtime.lane.channel import Channel, ChannelOwner, Via
from nodes.runtime.lane.endpoints import Endpoints
from nodes.runtime.lane.settings import LaneSettings
from nodes.runtime.lane.tls import Admission, TlsContexts, TlsSession, admission_of
from nodes.runtime.lane.traffic import Traffic
from nodes.runtime.trust import Trust

OpenQuic = Callable[[NodeId], Awaitable[socket.socket]]
"""Returns a local stream socket that is joined to a fresh QUIC stream to this peer; ConnectionError."""


class Unreachable(ConnectionError):
    """No connection to a peer can be had; the text says what was tried."""


class Pool:
    """All connections. Channels tell the owner of tunnels, and this, what happens to them."""

    def __init__(
        self, trust: Trust, owner: ChannelOwner, open_quic: OpenQuic, settings: LaneSettings
    ) -> None:
        self.settings = settings
        self.endpoints = Endpoints(settings)
        self.traffic = Traffic(time.monotonic())
        self.refused: dict[str, int] = {}
        """How many handshakes ended for each reason; the reasons are our own few words."""
        self._owner = owner
        self._open_quic = open_quic
        self._server: asyncio.Server | None = None
        self._channels: dict[Channel, None] = {}
        self._trust = trust
        self._contexts = TlsContexts(trust)
        self._admission: Admission = admission_of(trust)

    # --- trust ------------------------------------------------------------------------------------

    def set_trust(self, trust: Trust) -> None:
        """Go by these rules from now on, for the connections that stand, too."""
        self._trust = trust
        self._contexts = TlsContexts(trust)
        self._admission = admission_of(trust)
        for channel in self.channels():
            session = channel.wire.session
            if session is None:
                if trust.is_revoked(channel.peer_id):
                    channel.close("node_revoked")
                continue
            if session.peer is not None:
                try:
                    self._admission(session.peer.node_id, session.peer.credential)
                except CredentialError as error:
                    channel.close(error.code)

    # --- listening --------------------------------------------------------------------------------

    async def listen(self, host: str | None, port: int) -> int:
        """Return the TCP port after starting to accept; `host` None: on every interface.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._incoming, host, port)
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    def _incoming(self) -> asyncio.BaseProtocol:
        session = TlsSession(self._contexts.context(), self._admission, server=True)
        channel = Channel(self._owner, Via.LANE, self.settings, dialled=False, session=session)
        accepted = [c for c in self._channels if not c.dialled]
        half_open = sum(1 for c in accepted if not c.ready.done())
        if len(accepted) >= self.settings.accepted_max or half_open >= self.settings.half_open_max:
            channel.wire.close("too_many_connections")
        else:
            self._channels[channel] = None
        return channel.wire

    def accepted(self, channel: Channel) -> None:
        """A connection is ready. Of one peer only so many may be."""
        if not channel.dialled:
            of_peer = sum(1 for c in self._of(channel.peer_id) if not c.dialled)
            if of_peer > self.settings.accepted_per_peer_max:
                channel.close("too_many_connections")

    # --- dialling ---------------------------------------------------------------------------------

    def idle(self, peer: NodeId) -> Channel | None:
        """Return a free connection, now taken, TCP before QUIC; None: there is none to use."""
        free = [c for c in self._of(peer) if c.dialled and not c.busy]
        free.sort(key=lambda c: (c.via is not Via.LANE, -c.idle_since_s))
        if free and free[0].via is Via.QUIC and self.endpoints.to_try(peer, time.monotonic()):
            return None  # TCP is worth a try again.
        if not free:
            return None
        free[0].take()
        return free[0]

    async def connect(self, peer: NodeId) -> Channel:
        """Return a new connection, taken: over TCP where that gets through, else over QUIC.

        Raises:
            Unreachable: neither does, or there are too many connections to this peer.
        """
        faults = []
        try:
            return await self.connect_tcp(peer)
        except Unreachable as error:
            faults.append(str(error))
        self._require_room(peer)
        try:
            sock = await self._open_quic(peer)
            return await self._joined(peer, sock, dialled=True)
        except OSError as error:
            faults.append(f"QUIC: {error or 'no answer in time'}")
            raise Unreachable("; ".join(faults)) from error

    async def connect_tcp(self, peer: NodeId) -> Channel:
        """Return a new connection over TCP, taken.

        Raises:
            Unreachable: it does not get through; `endpoints` then says when it is worth another try.
        """
        endpoint = self.endpoints.to_try(peer, time.monotonic())
        if endpoint is None:
            last = self.endpoints.fault(peer)
            raise Unreachable(f"TCP: {last or 'no address known'}")
        self._require_room(peer)
        session = TlsSession(self._contexts.context(), self._admission, server=False, expected=peer)
        channel = self._made(
            Channel(self._owner, Via.LANE, self.settings, dialled=True, session=session)
        )
        loop = asyncio.get_running_loop()
        try:
            with _closed_on_failure(channel):
                async with asyncio.timeout(self.settings.connect_timeout_s):
                    await loop.create_connection(lambda: channel.wire, endpoint.host, endpoint.port)
                async with asyncio.timeout(self.settings.handshake_timeout_s):
                    await channel.ready
        except OSError as error:
            fault = str(error) or "no answer in time"
            self.endpoints.failed(peer, endpoint, fault, time.monotonic())
            raise Unreachable(f"TCP to {endpoint.host}:{endpoint.port}: {fault}") from error
        self.endpoints.succeeded(peer, endpoint)
        return channel

    async def adopt(self, peer: NodeId, sock: socket.socket) -> None:
        """Take a local socket that is joined to a QUIC stream which this peer opened.

        Raises:
            OSError: the socket is of no use.
        """
        if len(self._channels) >= self.settings.accepted_max:
            sock.close()
            return
        await self._joined(peer, sock, dialled=False)

    async def _joined(self, peer: NodeId, sock: socket.socket, *, dialled: bool) -> Channel:
        if self._trust.is_revoked(peer):
            # Its link is for the node to close; this may know first.
            sock.close()
            raise Unreachable("node_revoked")
        sock.setblocking(False)
        channel = self._made(
            Channel(self._owner, Via.QUIC, self.settings, dialled=dialled, local_peer=peer)
        )
        loop = asyncio.get_running_loop()
        with _closed_on_failure(channel):
            await loop.create_unix_connection(lambda: channel.wire, sock=sock)
            async with asyncio.timeout(self.settings.handshake_timeout_s):
                await channel.ready
        return channel

    def _made(self, channel: Channel) -> Channel:
        # Taken from the start: else another tunnel could take it before its own wakes up.
        channel.busy = channel.dialled
        self._channels[channel] = None
        return channel

    def _require_room(self, peer: NodeId) -> None:
        dialled = sum(1 for c in self._of(peer) if c.dialled)
        if dialled >= self.settings.dialled_per_peer_max:
            raise Unreachable(f"{dialled} connections to this peer are open already")

    # --- keeping ----------------------------------------------------------------------------------

    def channels(self) -> tuple[Channel, ...]:
        """Return every connection, those being proven too."""
        return tuple(self._channels)

    def _of(self, peer: NodeId) -> Iterator[Channel]:
        return (c for c in self._channels if c.is_open and c.peer_id == peer)

    def drop(self, peer: NodeId) -> None:
        """Close all connections with a peer."""
        for channel in tuple(self._of(peer)):
            channel.close("peer_gone")

    def forget(self, channel: Channel, code: str) -> None:
        """A connection has ended."""
        if self._channels.pop(channel, self) is self:
            return
        self.traffic.count(channel, closed=True)
        session = channel.wire.session
        if session is not None and session.peer is None:
            word = code.split(" ")[0].rstrip(":")
            self.refused[word] = self.refused.get(word, 0) + 1

    def tick(self, now_s: float) -> None:
        """Set the rates, and close what nobody has used for long."""
        self.traffic.tick((c for c in self._channels if c.is_open), now_s)
        for channel in self.channels():
            keep_s = self.settings.idle_keep_s if channel.dialled else self.settings.idle_accept_s
            if channel.is_open and not channel.busy and now_s - channel.idle_since_s > keep_s:
                channel.close("idle")

    async def close(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for channel in self.channels():
            channel.close("the node stops")


@contextlib.contextmanager
def _closed_on_failure(channel: Channel) -> Iterator[None]:
    """Close the connection when what is done with it fails or is given up."""
    try:
        yield
    except BaseException:
        channel.close("failed")
        raise
