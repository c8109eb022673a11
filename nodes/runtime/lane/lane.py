"""The bulk lane of one node: tunnels to peers, by TCP or, where that does not get through, by QUIC.

Decides which lane a tunnel begins on, and that one which had to begin on QUIC comes back to TCP as
soon as that gets through. Who may open what is for the handlers to say: they are told the peer as the
handshake proved it. Everything runs on one loop, that of the lane's child process.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from nodes.mesh.ids import NodeId
from nodes.runtime.lane.channel import Channel, LostCode, TunnelLostError, Via
from nodes.runtime.lane.endpoints import Endpoints
from nodes.runtime.lane.frames import TUNNEL_ID_BYTES, FrameKind, why
from nodes.runtime.lane.pool import OpenQuic, Pool, Unreachable
from nodes.runtime.lane.settings import LaneSettings
from nodes.runtime.lane.traffic import Totals
from nodes.runtime.lane.tunnel import Tunnel
from nodes.runtime.tasks import TaskSet
from nodes.runtime.trust import Trust

TICK_S = 1.0
"""Between two looks at idle connections, rates, and TCP that may get through again."""
PURPOSE_MAX_BYTES = 32
_log = logging.getLogger(__name__)


class Incoming:
    """A tunnel that a peer wants: accept it or refuse it, once."""

    def __init__(self, lane: "Lane", channel: Channel, tunnel_id: bytes, details: bytes) -> None:
        self.peer_id: NodeId = channel.peer_id
        """As the handshake proved it."""
        self.details = details
        """What the peer says of it; its bytes, so not to be believed."""
        self.settled = False
        self._lane = lane
        self._channel = channel
        self._tunnel_id = tunnel_id

    def accept(self, body: bytes = b"") -> Tunnel:
        """Return the tunnel, after telling the peer `body`. Raises: TunnelLostError."""
        assert not self.settled
        self.settled = True
        tunnel = self._lane.begun(self._channel, self._tunnel_id, opener=False)
        try:
            self._channel.post(FrameKind.ACCEPT, body)
        except TunnelLostError:
            tunnel.abort(LostCode.CONNECTION)
            raise
        return tunnel

    def refuse(self, code: LostCode, reason: str) -> None:
        """Tell the peer why not."""
        assert not self.settled
        self.settled = True
        self._channel.refuse(FrameKind.REFUSE, code, reason)
        if self._channel.is_open:
            self._channel.free()


Handler = Callable[[Incoming], Awaitable[None]]
"""Serves one wanted tunnel, to its end. What it raises aborts the tunnel."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What the lane does with one peer."""

    peer: NodeId
    via: Via | None
    """What its tunnels go over now, the worst of them; None: no tunnel."""
    tunnels: int
    connections: int
    lane: Totals
    quic: Totals
    tcp_fault: str
    """Why TCP does not get through; empty: nothing is known against it."""


class Lane:
    """The lane. Made on the loop that runs it."""

    def __init__(
        self,
        trust: Trust,
        handlers: Mapping[str, Handler],
        open_quic: OpenQuic,
        settings: LaneSettings | None = None,
    ) -> None:
        """`handlers` serve tunnels by their purpose, a word that both sides know."""
        self.settings = settings or LaneSettings()
        self._pool = Pool(trust, self, open_quic, self.settings)
        self._handlers = dict(handlers)
        self._tunnels: dict[bytes, Tunnel] = {}
        self._tasks = TaskSet()
        self._returning: set[NodeId] = set()
        self._tasks.spawn(self._keep())

    @property
    def endpoints(self) -> Endpoints:
        """Where peers are: to be told."""
        return self._pool.endpoints

    @property
    def refused(self) -> dict[str, int]:
        """How many handshakes ended for each reason."""
        return dict(self._pool.refused)

    async def listen(self, host: str | None, port: int) -> int:
        """Return the TCP port after starting to accept; `host` None: everywhere. Raises: OSError."""
        return await self._pool.listen(host, port)

    def set_trust(self, trust: Trust) -> None:
        """Go by these rules; connections of peers that they do not admit end now."""
        self._pool.set_trust(trust)

    def drop(self, peer: NodeId) -> None:
        """The peer is gone: close all connections with it, and with them its tunnels."""
        self._pool.drop(peer)

    async def adopt(self, peer: NodeId, sock: socket.socket) -> None:
        """Take a local socket joined to a QUIC stream that this peer opened. Raises: OSError."""
        await self._pool.adopt(peer, sock)

    # --- opening ----------------------------------------------------------------------------------

    async def open(self, peer: NodeId, purpose: str, details: bytes) -> Tunnel:
        """Return a tunnel that the peer has accepted.

        Raises:
            TunnelLostError: it refused (`REFUSED`), did not answer, or neither lane led there
                (`UNREACHABLE`).
        """
        word = purpose.encode("ascii")
        assert 0 < len(word) <= PURPOSE_MAX_BYTES
        tunnel_id = os.urandom(TUNNEL_ID_BYTES)
        body = tunnel_id + bytes([len(word)]) + word + details
        while (channel := self._pool.idle(peer)) is not None:
            try:
                return await self._begin(channel, tunnel_id, body)
            except TunnelLostError as error:
                if error.code != LostCode.CONNECTION:
                    raise
                # It was closed while it lay idle: the next one.
        try:
            channel = await self._pool.connect(peer)
        except Unreachable as error:
            raise TunnelLostError(LostCode.UNREACHABLE, str(error)) from error
        return await self._begin(channel, tunnel_id, body)

    async def _begin(self, channel: Channel, tunnel_id: bytes, body: bytes) -> Tunnel:
        try:
            channel.post(FrameKind.OPEN, body)
            async with asyncio.timeout(self.settings.answer_timeout_s):
                answer = await channel.next()
        except TimeoutError:
            channel.close("no_answer")
            raise TunnelLostError(LostCode.STALLED, "the peer did not answer") from None
        except asyncio.CancelledError:
            channel.close("given_up")
            raise
        if answer.kind is FrameKind.REFUSE:
            channel.free()
            raise TunnelLostError(*why(answer.body))
        if answer.kind is not FrameKind.ACCEPT:
            channel.close("protocol error: no answer to OPEN")
            raise TunnelLostError(LostCode.INTERNAL, f"{answer.kind.name} in answer to OPEN")
        tunnel = self.begun(channel, tunnel_id, opener=True)
        tunnel.acceptance = answer.body
        return tunnel

    def begun(self, channel: Channel, tunnel_id: bytes, *, opener: bool) -> Tunnel:
        """Return a new tunnel on this connection, kept until it closes."""
        tunnel = Tunnel(channel, tunnel_id, opener=opener, on_closed=self._ended)
        self._tunnels[tunnel_id] = tunnel
        return tunnel

    def _ended(self, tunnel: Tunnel) -> None:
        self._tunnels.pop(tunnel.tunnel_id, None)

    # --- ChannelOwner -----------------------------------------------------------------------------

    def channel_ready(self, channel: Channel) -> None:
        """A connection is ready."""
        self._pool.accepted(channel)

    def channel_opened(self, channel: Channel, body: bytes) -> None:
        """A peer wants a tunnel."""
        tunnel_id, rest = body[:TUNNEL_ID_BYTES], body[TUNNEL_ID_BYTES:]
        length = rest[0] if rest else 0
        purpose = rest[1 : 1 + length].decode("ascii", "replace")
        handler = self._handlers.get(purpose)
        incoming = Incoming(self, channel, tunnel_id, rest[1 + length :])
        if handler is None or tunnel_id in self._tunnels:
            incoming.refuse(LostCode.REFUSED, "nothing here takes such a tunnel")
            return
        self._tasks.spawn(self._serve(handler, incoming, tunnel_id, purpose))

    def channel_moved_to(self, channel: Channel, tunnel_id: bytes) -> None:
        """A peer wants a running tunnel to go on over this connection."""
        tunnel = self._tunnels.get(tunnel_id)
        if tunnel is None or tunnel.opener:
            channel.close("no such tunnel")
        else:
            self._tasks.spawn(tunnel.moved_to(channel))

    def channel_lost(self, channel: Channel, code: str) -> None:
        """A connection is over."""
        self._pool.forget(channel, code)

    async def _serve(
        self, handler: Handler, incoming: Incoming, tunnel_id: bytes, purpose: str
    ) -> None:
        reason, code = "", LostCode.CANCELLED
        try:
            await handler(incoming)
        except TunnelLostError as error:
            reason = str(error)
        except Exception:
            _log.exception("a tunnel for %s of %s failed", purpose, incoming.peer_id[:12])
            reason, code = "a fault at the other side", LostCode.INTERNAL
        finally:
            if not incoming.settled:
                incoming.refuse(code, reason or "given up")
            elif (tunnel := self._tunnels.get(tunnel_id)) is not None:
                tunnel.abort(code, reason or "given up")

    # --- keeping ----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            self._pool.tick(now_s)
            for peer in {t.peer_id for t in self._tunnels.values() if _could_return(t)}:
                if peer not in self._returning and self.endpoints.to_try(peer, now_s) is not None:
                    self._returning.add(peer)
                    self._tasks.spawn(self._return(peer))

    async def _return(self, peer: NodeId) -> None:
        """Carry this node's tunnels to a peer from QUIC to TCP, if that gets through now."""
        try:
            for tunnel in tuple(self._tunnels.values()):
                if tunnel.peer_id == peer and _could_return(tunnel):
                    channel = await self._pool.connect_tcp(peer)
                    if await tunnel.move(channel):
                        _log.info("a tunnel to %s went back from QUIC to TCP", peer[:12])
        except Unreachable as error:
            _log.info("%s is still reached by QUIC: %s", peer[:12], error)
        finally:
            self._returning.discard(peer)

    def status(self) -> list[PeerStatus]:
        """Return what is done with each peer, by id."""
        channels = [c for c in self._pool.channels() if c.is_open]
        peers = self._pool.traffic.peers() | {c.peer_id for c in channels}
        return [self._status_of(peer, channels) for peer in sorted(peers)]

    def _status_of(self, peer: NodeId, channels: list[Channel]) -> PeerStatus:
        tunnels = [t for t in self._tunnels.values() if t.peer_id == peer]
        ways = {t.via for t in tunnels}
        traffic = self._pool.traffic
        return PeerStatus(
            peer=peer,
            via=Via.QUIC if Via.QUIC in ways else Via.LANE if ways else None,
            tunnels=len(tunnels),
            connections=sum(1 for c in channels if c.peer_id == peer),
            lane=traffic.of(peer, Via.LANE),
            quic=traffic.of(peer, Via.QUIC),
            tcp_fault=self.endpoints.fault(peer),
        )

    async def close(self) -> None:
        """End every tunnel and connection."""
        for tunnel in tuple(self._tunnels.values()):
            tunnel.abort(LostCode.CANCELLED, "the node stops")
        await self._pool.close()
        await self._tasks.cancel()


def _could_return(tunnel: Tunnel) -> bool:
    return tunnel.opener and tunnel.via is Via.QUIC and tunnel.can_move
