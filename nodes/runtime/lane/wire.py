"""One lane connection's bytes: a socket, its encryption, and backpressure both ways.

Knows no frames. Over TCP everything passes through a `TlsSession`; over a local socket (the QUIC
fallback, whose bytes QUIC has encrypted and whose peer it has proven) nothing does.
"""

import asyncio
import contextlib
import socket
from typing import Protocol, cast

from nodes.mesh.ids import NodeId
from nodes.runtime.lane.settings import UNSENT_HIGH_BYTES, LaneSettings
from nodes.runtime.lane.tls import LaneRefusedError, TlsSession

_READ_BYTES = 128 << 10
_FLUSH_S = 10.0
"""What was written before a close has so long to leave."""


class WireOwner(Protocol):
    """Who is told. Plain functions that must not block."""

    def wire_ready(self) -> None:
        """The other end is proven; content may come and go."""

    def wire_content(self, content: bytes) -> None:
        """Bytes came, in order."""

    def wire_lost(self, code: str) -> None:
        """The connection is over; told once."""


class Wire(asyncio.BufferedProtocol):
    """One connection. Made for a socket by the loop's `create_connection` and the like."""

    def __init__(
        self,
        owner: WireOwner,
        session: TlsSession | None,
        local_peer: NodeId | None,
        settings: LaneSettings,
    ) -> None:
        """Over TCP `session` proves the peer; over a local socket the node has said who it is."""
        assert (session is None) != (local_peer is None)
        self._owner = owner
        self._session = session
        self._local_peer = local_peer
        self._settings = settings
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._ready = False
        self._lost = ""
        self._timer: asyncio.TimerHandle | None = None
        self.sent_bytes = 0
        """Content handed in, without encryption."""
        self.received_bytes = 0

    @property
    def peer_id(self) -> NodeId:
        """The proven id; only once ready."""
        if self._session is None:
            assert self._local_peer is not None
            return self._local_peer
        assert self._session.peer is not None
        return self._session.peer.node_id

    @property
    def session(self) -> TlsSession | None:
        """The encryption; None on a local socket."""
        return self._session

    @property
    def is_open(self) -> bool:
        """True from the proof until the end."""
        return self._ready and not self._lost

    @property
    def lost_code(self) -> str:
        """Why it is over; empty while it is not."""
        return self._lost

    # --- for the owner ----------------------------------------------------------------------------

    def send(self, content: bytes) -> None:
        """Write now; `drained` says when to go on. Nothing happens after the end."""
        if self._transport is None or not self.is_open:
            return
        self.sent_bytes += len(content)
        self._transport.write(content if self._session is None else self._session.seal(content))

    async def drained(self) -> None:
        """Return when more may be written.

        Raises:
            TimeoutError: the other side took nothing for `write_progress_s`.
        """
        if not self._writable.is_set():
            async with asyncio.timeout(self._settings.write_progress_s):
                await self._writable.wait()

    def pause_reading(self) -> None:
        """Take no more from the system for now."""
        if self._transport is not None and not self._lost:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on taking."""
        if self._transport is not None and not self._lost:
            self._transport.resume_reading()

    def close(self, code: str) -> None:
        """End the connection; what was written still goes out, for a moment."""
        if self._lost:
            return
        if self._transport is not None:
            self._transport.close()
            asyncio.get_running_loop().call_later(_FLUSH_S, self._transport.abort)
        self._over(code)

    # --- asyncio ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there: begin the handshake."""
        # uvloop's transports are none of asyncio's classes, only of their shape.
        self._transport = cast("asyncio.Transport", transport)
        if self._lost:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=UNSENT_HIGH_BYTES)
        if self._session is None:
            self._become_ready()
            return
        _tune(transport.get_extra_info("socket"), self._settings)
        self._timer = asyncio.get_running_loop().call_later(
            self._settings.handshake_timeout_s, self.close, "handshake_timeout"
        )
        self._transport.write(self._session.begin())

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where received bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        received = self._buffer[:nbytes]
        if self._session is None:
            self._content(bytes(received))
            return
        assert self._transport is not None
        try:
            fed = self._session.feed(received)
        except LaneRefusedError as error:
            self._transport.write(self._session.last_words())
            self.close(error.code)
            return
        if fed.reply:
            self._transport.write(fed.reply)
        if not self._ready and self._session.peer is not None:
            self._become_ready()
        for content in fed.content:
            self._content(content)

    def eof_received(self) -> bool:
        """The other side sends no more: no tunnel works half open below its own END."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._over("lost" if exc is None else f"lost ({type(exc).__name__})")

    def pause_writing(self) -> None:
        """Too much waits to leave."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has left."""
        self._writable.set()

    # --- inner ------------------------------------------------------------------------------------

    def _become_ready(self) -> None:
        self._ready = True
        if self._timer is not None:
            self._timer.cancel()
        self._owner.wire_ready()

    def _content(self, content: bytes) -> None:
        if self._lost:
            return
        self.received_bytes += len(content)
        self._owner.wire_content(content)

    def _over(self, code: str) -> None:
        if self._lost:
            return
        self._lost = code
        if self._timer is not None:
            self._timer.cancel()
        self._writable.set()
        self._owner.wire_lost(code)


def _tune(sock: socket.socket, settings: LaneSettings) -> None:
    """Have small exchanges leave at once, and a dead machine noticed."""
    wanted = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    for name, value in (
        ("TCP_KEEPIDLE", settings.keepalive_idle_s),
        ("TCP_KEEPALIVE", settings.keepalive_idle_s),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", settings.unanswered_s * 1000),
    ):
        if hasattr(socket, name):  # each system has some of them
            wanted.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    for level, option, value in wanted:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)
