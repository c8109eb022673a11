"""One HTTP/1.1 connection to an engine: writes a request, hands out the answer's bytes as they come.

Decides how one exchange ends: cleanly (by Content-Length or the last chunk, so the connection may
be used again unless the answer was streamed) or not. Knows no pool and no retry.

Source: RFC 9112. llama-server announces keep-alive after a streamed answer and closes all the same,
so a streamed answer always spends its connection.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from proxy.upstream import Header, OutboundRequest, UpstreamError, UpstreamTrouble

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE_HIGH_BYTES = 64 * 1024
"""Answer bytes waiting for the client at which the engine is no longer read."""
ANSWER_HEAD_MAX_BYTES = 64 * 1024
"""An engine's headers beyond this are not HTTP worth following."""
WRITE_SLICE_BYTES = 256 * 1024
"""A request body is written in slices, so that no transport copies it whole."""


class UpstreamConnection(asyncio.Protocol):
    """One connection; carries one exchange at a time."""

    def __init__(
        self,
        on_idle: "Callable[[UpstreamConnection], None]",
        on_closed: "Callable[[UpstreamConnection], None]",
    ) -> None:
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._queued = 0
        self._waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], bool] | None = None
        self._write_paused = False
        self._read_paused = False
        self.closed = False
        self.uses = 0
        """Exchanges begun on this connection."""
        self._reset()

    @property
    def sized(self) -> bool:
        """Whether the answer's length was announced: a stream's is not."""
        return self._sized

    def _reset(self) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self._head_bytes = 0
        self._head_done = False
        self._finished = False
        self._error: Exception | None = None
        self._sized = False
        self._by_close = False
        self.got_bytes = False
        """Whether any byte of the answer has come."""
        self.deadline: float | None = None
        """Loop time at which the silence is too long; None: nothing is awaited. Read by the pool."""
        self.idle_deadline_s = 0.0

    # --- the exchange ----------------------------------------------------------------------------

    async def begin(
        self, request: OutboundRequest, host: bytes, first_byte_s: float, idle_s: float
    ) -> None:
        """Send a request and return once the answer's headers are here. Raises UpstreamError."""
        self._reset()
        self.uses += 1
        self._parser = httptools.HttpResponseParser(self)
        self.idle_deadline_s = idle_s
        self.deadline = self._loop.time() + first_byte_s
        await self._write(_head(request, host), request.body)
        while not self._head_done and self._error is None:
            await self._wait()
        if not self._head_done:
            assert self._error is not None
            raise self._error
        self.deadline = self._loop.time() + idle_s

    async def read(self) -> bytes:
        """Return the next bytes of the body, empty at its clean end. Raises UpstreamError."""
        while True:
            if self._chunks:
                return self._take()
            if self._error is not None:
                raise self._error
            if self._finished:
                return b""
            await self._wait()

    async def pump(self, sink: "Callable[[bytes], bool]") -> None:
        """Hand every piece to `sink` the moment it comes, with no task woken for it.

        Returns when `sink` has returned False (its reader is slow) or nothing more will come;
        `read` then says which. `sink` must not raise.
        """
        if self._chunks and not sink(self._take()):
            return
        self._sink = sink
        try:
            while self._sink is not None and not self._finished and self._error is None:
                await self._wait()
        finally:
            self._sink = None

    def close(self) -> None:
        """Let go: back to the pool after a sized and finished answer, else closed at once."""
        self.deadline = None
        if self._finished and self._sized and not self.closed and not self._chunks:
            self._on_idle(self)
        else:
            self.abort()

    def fail(self, error: Exception) -> None:
        """Make a waiting or coming `read` raise `error`, and close the connection."""
        if not self._finished and self._error is None:
            self._error = error
            self._chunks.clear()
        self.abort()
        self._wake()

    def abort(self) -> None:
        """Close the connection at once. May be called twice."""
        self.closed = True
        self.deadline = None
        if self._transport is not None:
            self._transport.abort()

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._queued = 0
        if self._read_paused and self._transport is not None and not self.closed:
            self._read_paused = False
            self._transport.resume_reading()
            self.deadline = self._loop.time() + self.idle_deadline_s
        return data

    async def _write(self, head: bytes, body: bytes) -> None:
        transport = self._transport
        assert transport is not None
        if len(body) <= WRITE_SLICE_BYTES:
            transport.write(head + body)
            return
        transport.write(head)
        view = memoryview(body)
        for start in range(0, len(body), WRITE_SLICE_BYTES):
            while self._write_paused and self._error is None and not self._head_done:
                self._write_waiter = self._loop.create_future()
                await self._write_waiter
            if self._error is not None or self._head_done:
                return  # answered or died early: the rest of the body is not wanted
            transport.write(view[start : start + WRITE_SLICE_BYTES])

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or self._finished:
            self.fail(UpstreamError(UpstreamTrouble.BROKEN))  # bytes that nobody asked for
            return
        self.got_bytes = True
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail(UpstreamError(UpstreamTrouble.BROKEN))
            return
        if not self._head_done:
            if self._head_bytes > ANSWER_HEAD_MAX_BYTES:
                self.fail(UpstreamError(UpstreamTrouble.BROKEN))
            return
        if self.deadline is not None:
            self.deadline = self._loop.time() + self.idle_deadline_s
        if self._queued > QUEUE_HIGH_BYTES and not self._read_paused and not self._finished:
            self._read_paused = True
            self.deadline = None  # the client is slow, not the engine
            assert self._transport is not None
            self._transport.pause_reading()
        sink = self._sink
        if sink is not None and self._chunks:
            if sink(self._take()) and not self._finished:
                return
            self._sink = None
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._by_close and self._head_done and exc is None:
            self._finished = True
        if not self._finished and self._error is None:
            self._error = UpstreamError(UpstreamTrouble.DIED)
        self._parser = None
        self._on_closed(self)
        self._wake()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)

    # --- httptools -------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # what comes later is a trailer
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = []
            return
        self.status = status
        self._head_done = True
        names = dict(self.headers)
        self._sized = b"content-length" in names and self._parser.should_keep_alive()
        chunked = b"chunked" in names.get(b"transfer-encoding", b"").lower()
        bodiless = status in (204, 304)
        self._by_close = not (chunked or bodiless or b"content-length" in names)

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._queued += len(data)

    def on_message_complete(self) -> None:
        if self._head_done:
            self._finished = True


def _head(request: OutboundRequest, host: bytes) -> bytes:
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method, request.target, host)]
    lines.extend(b"%b: %b\r\n" % header for header in request.headers)
    if request.body or request.method != b"GET":
        lines.append(b"content-length: %d\r\n" % len(request.body))
    lines.append(b"\r\n")
    return b"".join(lines)
