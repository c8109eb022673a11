"""The QUIC fallback's node side: joins a stream of kind `bulk` to a local socket of the lane's child.

Decides only who may: full members. The bytes are the lane's frames and mean nothing here; a lost
stream closes the socket and the other way round, and the frames' own END tells an end from a loss.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from nodes.mesh.ids import NodeId
from nodes.runtime.credentials import Role
from nodes.runtime.lane.settings import DATA_MAX_BYTES
from nodes.runtime.link import Link
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from nodes.runtime.tasks import TaskSet

BULK_KIND = "bulk"
STREAMS_MAX = 128
"""Streams joined at a time, both directions together; further ones are refused."""
LINGER_S = 5.0
"""When one direction is over: how long the other one may still finish."""


class BulkStreams:
    """The streams of kind `bulk` of one node. `serve` is the handler of that kind (`links`)."""

    def __init__(self, hand_over: Callable[[NodeId, socket.socket], None]) -> None:
        """`hand_over` gives the child its end of a stream that a peer opened, and keeps it."""
        self._hand_over = hand_over
        self._tasks = TaskSet()
        self._joined = 0

    async def serve(self, link: Link, stream: Stream) -> None:
        """Join a stream that a peer opened; return when it is over."""
        if link.role is not Role.MEMBER or self._joined >= STREAMS_MAX:
            stream.abort(AbortCode.REFUSED, "no bulk stream for this node now")
            return
        ours, theirs = socket.socketpair()
        try:
            self._hand_over(link.peer_id, theirs)
        except OSError:
            # The child is gone or takes nothing.
            ours.close()
            stream.abort(AbortCode.REFUSED, "no bulk lane here now")
            return
        finally:
            theirs.close()
        await self._join(ours, stream)

    async def open(self, link: Link) -> socket.socket:
        """Return the child's end of a new stream to this peer; the caller passes it on and closes it.

        Raises:
            StreamAbortedError: the link is down or full.
        """
        if self._joined >= STREAMS_MAX:
            raise StreamAbortedError(AbortCode.REFUSED, "too many bulk streams")
        stream = await link.open_stream(BULK_KIND)
        ours, theirs = socket.socketpair()
        self._tasks.spawn(self._join(ours, stream))
        return theirs

    async def close(self) -> None:
        """End all of them."""
        await self._tasks.cancel()

    async def _join(self, sock: socket.socket, stream: Stream) -> None:
        """Carry bytes both ways until both are over, or one and a moment; close both."""
        sock.setblocking(False)
        self._joined += 1
        ways = {asyncio.create_task(_out(sock, stream)), asyncio.create_task(_back(sock, stream))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(ways, timeout=LINGER_S)
        finally:
            self._joined -= 1
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            sock.close()
            stream.abort(AbortCode.CANCELLED, "the other side of the lane closed")


async def _out(sock: socket.socket, stream: Stream) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while content := await loop.sock_recv(sock, DATA_MAX_BYTES):
            await stream.write(content)
        stream.end()


async def _back(sock: socket.socket, stream: Stream) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        try:
            while content := await stream.read():
                await loop.sock_sendall(sock, content)
        finally:
            sock.shutdown(socket.SHUT_WR)
