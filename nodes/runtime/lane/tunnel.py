"""One tunnel: content and messages both ways, an explicit end for each, aborts that are seen.

It rides on one connection at a time and can be moved to another while it runs, without a byte lost or
doubled: whoever opened it asks there (MOVE), both sides write SWITCH as their last frame on the old
one, and each reads the old one up to SWITCH before the new. So a tunnel that began on the QUIC
fallback comes back to TCP. One task reads, one writes; both may be the same.
"""

import asyncio
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass

from nodes.mesh.ids import NodeId
from nodes.runtime.lane.channel import Channel, LostCode, TunnelLostError, Via
from nodes.runtime.lane.frames import FrameKind, why
from nodes.runtime.lane.settings import DATA_MAX_BYTES


@dataclass(frozen=True, slots=True)
class Message:
    """A word of one end of the tunnel to the other, in its place between the content."""

    body: bytes


class Tunnel:
    """One tunnel, on either side."""

    def __init__(
        self,
        channel: Channel,
        tunnel_id: bytes,
        *,
        opener: bool,
        on_closed: Callable[["Tunnel"], None],
    ) -> None:
        self.tunnel_id = tunnel_id
        self.opener = opener
        self.peer_id: NodeId = channel.peer_id
        self.acceptance = b""
        """What the accepting side said of it."""
        self._channels = [channel]
        """The one in use; while it moves, also the one it moves to."""
        self._in = self._out = channel
        self._welcome = asyncio.Event()
        """Set when both sides know of the new connection."""
        self._ended_in = self._ended_out = False
        self._fault: TunnelLostError | None = None
        self._writing = asyncio.Lock()
        self._on_closed = on_closed
        self._closed = False

    @property
    def via(self) -> Via:
        """What carries what is written now."""
        return self._out.via

    @property
    def closed(self) -> bool:
        """True when nothing more will come or go."""
        return self._closed

    # --- reading and writing ----------------------------------------------------------------------

    async def read(self) -> bytes | Message | None:
        """Return content, at least one byte, or a message; None is the end, and only the true end.

        Raises:
            TunnelLostError: it ended early. What had come before is returned first.
        """
        while not self._ended_in:
            if self._fault is not None:
                raise self._fault
            try:
                frame = await self._in.next()
            except TunnelLostError as error:
                raise self._lost(error) from None
            match frame.kind:
                case FrameKind.DATA:
                    if frame.body:
                        return frame.body
                case FrameKind.MESSAGE:
                    return Message(frame.body)
                case FrameKind.END:
                    self._ended_in = True
                    self._maybe_closed()
                case FrameKind.SWITCH if len(self._channels) > 1:
                    await self._switch_in()
                case FrameKind.ABORT:
                    raise self._lost(TunnelLostError(*why(frame.body)))
                case _:
                    self.abort(LostCode.INTERNAL, f"{frame.kind.name} inside a tunnel")
        return None

    async def write(self, content: bytes | memoryview) -> None:
        """Return when all of `content` is on its way: waits while the other side does not take it.

        Raises:
            TunnelLostError: it ended early.
        """
        async with self._writing:
            await self._write(content)

    async def tell(self, body: bytes, content: AsyncIterable[bytes] | None = None) -> None:
        """Return when a message is on its way, with `content` right behind it and nothing in between.

        Raises:
            TunnelLostError: it ended early; and whatever `content` raises.
        """
        async with self._writing:
            self._post(FrameKind.MESSAGE, body)
            if content is not None:
                async for part in content:
                    await self._write(part)

    async def _write(self, content: bytes | memoryview) -> None:
        view = memoryview(content)
        for at in range(0, len(view), DATA_MAX_BYTES):
            self._post(FrameKind.DATA, view[at : at + DATA_MAX_BYTES])
            try:
                await self._out.drained()
            except TunnelLostError as error:
                raise self._lost(error) from None

    def _post(self, kind: FrameKind, body: bytes | memoryview) -> None:
        if self._fault is not None:
            raise self._fault
        assert not self._ended_out, "write after end"
        try:
            self._out.post(kind, body)
        except TunnelLostError as error:
            raise self._lost(error) from None

    def end(self) -> None:
        """Say that all has been written. Reading goes on. Twice is allowed."""
        if self._ended_out or self._closed:
            return
        self._ended_out = True
        if self._out.is_open:
            self._out.post(FrameKind.END)
        self._maybe_closed()

    def abort(self, code: LostCode, reason: str = "") -> None:
        """Give it up both ways, at once; after its end this does nothing."""
        if not self._closed:
            self._out.refuse(FrameKind.ABORT, code, reason)
            self._lost(TunnelLostError(code, reason or "aborted here"))

    # --- moving -----------------------------------------------------------------------------------

    @property
    def can_move(self) -> bool:
        """True while it is whole and stays where it is."""
        ending = self._closed or self._ended_in or self._ended_out
        return not ending and len(self._channels) == 1

    async def move(self, channel: Channel) -> bool:
        """Go on over `channel`, taken and to the same peer; return whether it was done.

        For the side that opened the tunnel. On False nothing has changed, and `channel` is free or closed.
        """
        assert self.opener
        assert channel.peer_id == self.peer_id
        if not self.can_move:
            channel.free()
            return False
        self._channels.append(channel)
        try:
            channel.post(FrameKind.MOVE, self.tunnel_id)
            moved = (await channel.next()).kind is FrameKind.MOVED
        except TunnelLostError:
            moved = False
        if not moved or self._closed:
            if channel in self._channels:
                self._channels.remove(channel)
            channel.close("the tunnel did not move")
            return False
        await self._switch_out()
        return True

    async def moved_to(self, channel: Channel) -> None:
        """The opener asks to go on over `channel`: do so, or refuse."""
        if not self.can_move or channel.peer_id != self.peer_id:
            channel.close("the tunnel is ending")
            return
        self._channels.append(channel)
        try:
            channel.post(FrameKind.MOVED)
        except TunnelLostError as error:
            self._lost(error)
            return
        await self._switch_out()

    async def _switch_out(self) -> None:
        self._welcome.set()
        async with self._writing:
            if self._closed:
                return
            if not self._ended_out:
                self._post(FrameKind.SWITCH, b"")
                self._out = self._channels[-1]
        self._settle()

    async def _switch_in(self) -> None:
        """The old connection has brought all that it had."""
        # The other side's SWITCH may overtake its MOVED: they come over two connections.
        await self._welcome.wait()
        if not self._closed:
            self._in = self._channels[-1]
            self._settle()

    def _settle(self) -> None:
        """Give the old connection free once neither direction uses it."""
        if len(self._channels) > 1 and self._in is self._out is self._channels[-1]:
            old = self._channels.pop(0)
            self._welcome.clear()
            if old.is_open:
                old.free()

    # --- inner ------------------------------------------------------------------------------------

    def _lost(self, fault: TunnelLostError) -> TunnelLostError:
        """End early; return the fault that stands, which is the first."""
        if self._fault is None:
            self._fault = fault
        self._welcome.set()
        self._close(clean=False)
        return self._fault

    def _maybe_closed(self) -> None:
        if self._ended_in and self._ended_out:
            self._close(clean=True)

    def _close(self, *, clean: bool) -> None:
        if self._closed:
            return
        self._closed = True
        # A connection is used again only where both ends are certain of what it carries next.
        reusable = clean and len(self._channels) == 1
        for channel in self._channels:
            if reusable and channel.is_open:
                channel.free()
            else:
                channel.close("its tunnel is over")
        self._on_closed(self)
