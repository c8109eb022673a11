"""One lane connection as a place for one tunnel after another: frames in and out, bounded both ways.

Decides what a frame means while no tunnel is on it (OPEN and MOVE of the side that dialled), what a
lost connection means (what came may still be read, then `TunnelLostError`), and when the socket is
not read. Which connection a tunnel gets is `pool`'s business.
"""

import asyncio
import time
from collections import deque
from enum import IntEnum, StrEnum
from typing import Protocol

from nodes.mesh.ids import NodeId
from nodes.runtime.lane import frames
from nodes.runtime.lane.frames import Frame, FrameKind, LaneFrameError, LaneFrameReader
from nodes.runtime.lane.settings import (
    MESSAGE_COST_BYTES,
    UNREAD_HIGH_BYTES,
    UNREAD_LOW_BYTES,
    VERSION,
    LaneSettings,
)
from nodes.runtime.lane.tls import TlsSession
from nodes.runtime.lane.wire import Wire


class Via(StrEnum):
    """What carries a connection."""

    LANE = "lane"
    """TLS over TCP."""
    QUIC = "quic"
    """A stream of the peer link, where TCP does not get through."""


class LostCode(IntEnum):
    """Why a tunnel ended early; on the wire in REFUSE and ABORT."""

    CANCELLED = 1
    INTERNAL = 2
    REFUSED = 3
    """Nobody there takes this, or not from this node."""
    CONNECTION = 5
    STALLED = 6
    UNREACHABLE = 7
    """Neither lane led there."""


class TunnelLostError(ConnectionError):
    """The tunnel ended early. `code` says who gave up and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason or f"tunnel lost ({code})")
        self.code = code
        self.reason = reason


class ChannelOwner(Protocol):
    """Who is told of a connection; plain functions that must not block."""

    def channel_ready(self, channel: "Channel") -> None:
        """The peer is proven and, on the dialling side, has said READY."""

    def channel_opened(self, channel: "Channel", body: bytes) -> None:
        """The peer wants a tunnel on this connection, which is free."""

    def channel_moved_to(self, channel: "Channel", tunnel_id: bytes) -> None:
        """The peer wants a running tunnel to go on here."""

    def channel_lost(self, channel: "Channel", code: str) -> None:
        """The connection is over; told once."""


class Channel:
    """One connection; `wire` is what is given to the loop as its protocol."""

    def __init__(
        self,
        owner: ChannelOwner,
        via: Via,
        settings: LaneSettings,
        *,
        dialled: bool,
        session: TlsSession | None = None,
        local_peer: NodeId | None = None,
    ) -> None:
        self.via = via
        self.dialled = dialled
        """True: this side opens the tunnels here."""
        self.wire = Wire(self, session, local_peer, settings)
        self.busy = False
        """True while a tunnel is on it, or about to be."""
        self.idle_since_s = time.monotonic()
        self.ready = asyncio.get_running_loop().create_future()
        """Done when tunnels may be opened; fails with ConnectionError."""
        self.ready.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._owner = owner
        self._frames = LaneFrameReader()
        self._inbox: deque[Frame] = deque()
        self._unread_bytes = 0
        self._paused = False
        self._arrived = asyncio.Event()

    def __repr__(self) -> str:
        return f"Channel({self.via}, {'dialled' if self.dialled else 'accepted'})"

    @property
    def peer_id(self) -> NodeId:
        """Whom it leads to; only once ready."""
        return self.wire.peer_id

    @property
    def is_open(self) -> bool:
        """True while frames may come and go."""
        return self.wire.is_open

    @property
    def unread_bytes(self) -> int:
        """What came and was not taken, as it counts against the bound."""
        return self._unread_bytes

    # --- for tunnels ------------------------------------------------------------------------------

    def post(self, kind: FrameKind, body: bytes | memoryview = b"") -> None:
        """Write a frame without waiting. `drained` says when to go on.

        Raises:
            TunnelLostError: the connection is over.
        """
        if not self.is_open:
            raise self._lost_error()
        self.wire.send(b"".join((frames.head(kind, len(body)), body)))

    def refuse(self, kind: FrameKind, code: int, reason: str) -> None:
        """Write a REFUSE or ABORT; on a lost connection nothing."""
        if self.is_open:
            self.wire.send(frames.refusal(kind, code, reason))

    async def drained(self) -> None:
        """Return when the other side has taken enough for the next frame.

        Raises:
            TunnelLostError: the connection is over, or nothing was taken for too long.
        """
        try:
            await self.wire.drained()
        except TimeoutError:
            self.close("stalled")
            raise TunnelLostError(LostCode.STALLED, "the other side takes nothing") from None
        if not self.is_open:
            raise self._lost_error()

    async def next(self) -> Frame:
        """Return the next frame. What came before the connection's end is returned first.

        Raises:
            TunnelLostError: the connection is over.
        """
        while not self._inbox:
            if not self.is_open:
                raise self._lost_error()
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._inbox.popleft()
        self._unread_bytes -= _cost(frame)
        if self._paused and self._unread_bytes <= UNREAD_LOW_BYTES:
            self._paused = False
            self.wire.resume_reading()
        return frame

    def take(self) -> None:
        """Reserve it for a tunnel."""
        assert not self.busy
        self.busy = True

    def free(self) -> None:
        """The tunnel is over on both sides: the next may come."""
        self.busy = False
        self.idle_since_s = time.monotonic()
        while self._inbox and not self.busy and self.is_open:
            frame = self._inbox.popleft()
            self._unread_bytes -= _cost(frame)
            self._while_idle(frame)

    def close(self, code: str) -> None:
        """End the connection."""
        self.wire.close(code)

    # --- WireOwner --------------------------------------------------------------------------------

    def wire_ready(self) -> None:
        """The peer is proven. The accepting side says so: only then has the other one's proof held."""
        if not self.dialled:
            self.wire.send(frames.encode(FrameKind.READY, bytes([VERSION])))
            self._become_ready()

    def wire_content(self, content: bytes) -> None:
        """Bytes came."""
        try:
            for frame in self._frames.feed(content):
                if not self.ready.done():
                    self._first(frame)
                elif self.busy or self._inbox:
                    self._inbox.append(frame)
                    self._unread_bytes += _cost(frame)
                else:
                    self._while_idle(frame)
        except LaneFrameError as error:
            self.close(f"protocol error: {error}")
            return
        if self._inbox:
            self._arrived.set()
        if not self._paused and self._unread_bytes > UNREAD_HIGH_BYTES:
            self._paused = True
            self.wire.pause_reading()

    def wire_lost(self, code: str) -> None:
        """The connection is over."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(code))
        self._arrived.set()
        self._owner.channel_lost(self, code)

    # --- inner ------------------------------------------------------------------------------------

    def _become_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
            self._owner.channel_ready(self)

    def _first(self, frame: Frame) -> None:
        if frame.kind is not FrameKind.READY:
            raise LaneFrameError("not ready, and yet a frame")
        if frame.body[0] != VERSION:
            raise LaneFrameError(f"version {frame.body[0]} of the lane")
        self._become_ready()

    def _while_idle(self, frame: Frame) -> None:
        if self.dialled:
            raise LaneFrameError("a frame without a tunnel")
        if frame.kind is FrameKind.OPEN:
            self.busy = True
            self._owner.channel_opened(self, frame.body)
        elif frame.kind is FrameKind.MOVE:
            self.busy = True
            self._owner.channel_moved_to(self, frame.body)
        else:
            raise LaneFrameError("a frame without a tunnel")

    def _lost_error(self) -> TunnelLostError:
        code = self.wire.lost_code or "not ready"
        return TunnelLostError(LostCode.CONNECTION, f"the connection is gone ({code})")


def _cost(frame: Frame) -> int:
    return len(frame.body) + MESSAGE_COST_BYTES
