"""One byte stream over QUIC with credit both ways, an explicit end, and aborts that are seen.

Decides when a writer waits (no credit), when a reader gets the end (END only), and what a cut
connection, a reset or a missing END means (`StreamAbortedError`, never the end). aioquic grants
windows for bytes received, whoever reads them; here credit is granted for bytes the reader has taken,
so at most `WINDOW_BYTES` wait in memory each way. Knows no aioquic: it talks to a `StreamCarrier`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from nodes.runtime import frames
from nodes.runtime.frames import Abort, Credit, Data, End, Frame, FrameError, FrameReader, Open

WINDOW_BYTES = 256 << 10
"""Bytes that may be on their way or unread, each direction of each stream."""
_GRANT_AT_BYTES = WINDOW_BYTES // 2
OWN_CODES_FROM = 64
"""Abort codes from here on belong to the kind of stream, such as "the engine died" of ``request``."""


class AbortCode(IntEnum):
    """Why a stream ended early; on the wire in ABORT frames and QUIC resets."""

    CANCELLED = 1
    """The other side does not want it any more."""
    INTERNAL = 2
    """A fault at the other side."""
    REFUSED = 3
    """Nobody there takes this kind of stream, or no more of them."""
    TRUNCATED = 4
    """The stream ended without END."""
    LINK_LOST = 5
    """The connection is gone."""
    STALLED = 6
    """No progress within the deadline."""


class StreamAbortedError(ConnectionError):
    """The stream ended early, before or after some content. `code` says who gave up and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason or f"stream aborted ({code})")
        self.code = code
        self.reason = reason


class StreamCarrier(Protocol):
    """The connection below a stream."""

    def send_bytes(
        self, stream_id: int, content: bytes, *, finish: bool, lazily: bool = False
    ) -> None:
        """Send; `lazily`: a few milliseconds later will do, if other pieces are on their way then."""
        ...

    def abandon(self, stream_id: int, code: int, last_words: bytes) -> None:
        """Let go of both directions; `last_words` go out if little else waits before them."""
        ...

    def stream_closed(self, stream: "Stream") -> None: ...


class Stream:
    """One stream. One task reads, one writes; both may be the same."""

    def __init__(
        self, carrier: StreamCarrier, stream_id: int, kind: str, write_progress_s: float
    ) -> None:
        self.stream_id = stream_id
        self.kind = kind
        """What it is for; empty at first on a stream that the other side opens, until its OPEN has come."""
        self._carrier = carrier
        self._frames = FrameReader(expects_open=not kind)
        self._chunks: deque[bytes] = deque()
        self._unread_bytes = 0
        self._owed_bytes = 0
        """Taken by the reader and not yet granted again."""
        self._credit_bytes = WINDOW_BYTES
        self._write_progress_s = write_progress_s
        self._ended_in = False
        self._ended_out = False
        self._backlog: deque[bytes] = deque()
        """What `write_now` took beyond the credit: the caller waits with `drained` before it adds more."""
        self._sink: Callable[[bytes], bool] | None = None
        self.on_fault: Callable[[StreamAbortedError], None] | None = None
        """Told once, at once, when the other side or the connection ends the stream early; not of `abort`."""
        self._fault: StreamAbortedError | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def closed(self) -> bool:
        """True when nothing more will come or go (what came may still be read)."""
        return self._fault is not None or (self._ended_in and self._ended_out)

    @property
    def carrier(self) -> StreamCarrier:
        """The connection that carries it."""
        return self._carrier

    @property
    def unread_bytes(self) -> int:
        """Bytes that came and were not read yet."""
        return self._unread_bytes

    def open(self) -> None:
        """Tell the other side that the stream exists and what it is for."""
        self._send(Open(self.kind))

    async def read(self, max_bytes: int = 64 << 10, progress_s: float | None = None) -> bytes:
        """Return the next bytes, at least one; b"" is the end, and only ever the true end.

        Waits at most `progress_s`; None: as long as it takes.

        Raises:
            StreamAbortedError: the stream ended early. What had come before is returned first.
        """
        if not self._chunks and not self._ended_in and self._fault is None:
            await self._wait(self._readable, progress_s, "sent nothing")
        if self._chunks:
            return self._take(max_bytes)
        if self._fault is not None and not self._ended_in:
            raise self._fault
        return b""

    async def pump(self, sink: Callable[[bytes], bool]) -> None:
        """Hand every piece to `sink` the moment it comes, with no task woken for it.

        Returns when `sink` has returned False (its reader is slow), or nothing more will come; `read`
        then says which. What `sink` was handed counts as read. It must not raise.
        """
        if self._chunks and not sink(self._take_all()):
            return
        self._sink = sink
        try:
            while self._sink is not None and not self._ended_in and self._fault is None:
                self._readable.clear()
                await self._readable.wait()
        finally:
            self._sink = None
            if self._chunks or self._ended_in or self._fault is not None:
                self._readable.set()

    async def read_all(self, max_bytes: int, progress_s: float | None = None) -> bytes:
        """Return all content up to the end.

        Raises:
            StreamAbortedError: it ended early, or is longer than `max_bytes` (the stream is aborted).
        """
        parts: list[bytes] = []
        total = 0
        while chunk := await self.read(progress_s=progress_s):
            total += len(chunk)
            if total > max_bytes:
                self.abort(AbortCode.REFUSED, "too long")
                raise StreamAbortedError(AbortCode.REFUSED, "the content is too long")
            parts.append(chunk)
        return b"".join(parts)

    async def write(self, content: bytes) -> None:
        """Return when all of `content` is on its way: waits while the reader has granted no credit.

        Raises:
            StreamAbortedError: the stream ended early, or the reader took nothing for so long.
        """
        at = 0
        while at < len(content):
            if self._fault is not None:
                raise self._fault
            assert not self._ended_out and not self._backlog, "write after end, or before drained"
            size = min(self._credit_bytes, frames.MAX_DATA_BYTES, len(content) - at)
            if size == 0:
                self._writable.clear()
                await self._wait(self._writable, self._write_progress_s, "took nothing")
                continue
            self._credit_bytes -= size
            self._send(Data(content[at : at + size]))
            at += size
        if self._fault is not None:
            raise self._fault

    def write_now(self, content: bytes, *, lazily: bool = False) -> bool:
        """Take all of `content` at once; return False when the next piece must wait for `drained`.

        For pieces that come one by one, such as tokens: no task has to run for each, and those sent
        `lazily` share packets. After the stream's early end the content is dropped; `on_fault` has told
        of it, and `drained` raises.
        """
        if self._fault is not None:
            return False
        assert not self._ended_out, "write after end"
        self._backlog.append(content)
        return self._send_backlog(lazily=lazily)

    async def drained(self, progress_s: float | None = None) -> None:
        """Return when all that `write_now` took is on its way.

        Raises:
            StreamAbortedError: the stream ended early, or the reader took nothing for `progress_s`
                (None: the stream's own limit).
        """
        limit_s = self._write_progress_s if progress_s is None else progress_s
        while self._backlog and self._fault is None:
            self._writable.clear()
            await self._wait(self._writable, limit_s, "took nothing")
        if self._fault is not None:
            raise self._fault

    def end(self) -> None:
        """Say that all has been written. Reading goes on. Twice is allowed."""
        if self._ended_out or self._fault is not None:
            return
        assert not self._backlog, "end before what was written is on its way"
        self._ended_out = True
        # QUIC's own end waits until both have ended: credit for the other direction still has to pass.
        self._send(End())
        self._maybe_closed()

    def abort(self, code: int, reason: str = "") -> None:
        """Give the stream up, both ways, at once; after the end or an abort this does nothing.

        `code` is an `AbortCode`, or a word of the kind's own protocol from `OWN_CODES_FROM` on.
        """
        self.on_fault = None
        if self.closed:
            return
        fault = StreamAbortedError(code, reason or "aborted here")
        self._give_up(fault, frames.encode(Abort(code, reason)))

    # --- what the connection reports -------------------------------------------------------------

    def received(self, content: bytes, finished: bool) -> Open | None:
        """Take bytes from the connection; return the OPEN when this completed it.

        Raises:
            FrameError: the other side breaks the rules; its connection is to be closed.
        """
        opened: Open | None = None
        for frame in self._frames.feed(content):
            opened = self._apply(frame) or opened
        if self._sink is not None and self._chunks and not self._sink(self._take_all()):
            self._sink = None
            self._readable.set()
        if finished and not self._ended_in and self._fault is None:
            self._give_up(StreamAbortedError(AbortCode.TRUNCATED, "the stream was cut short"))
        return opened

    def was_reset(self, code: int) -> None:
        """The other side reset the stream, or takes no more of it."""
        if not self.closed:
            self._give_up(StreamAbortedError(code, ""))

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        if not self.closed:
            self._fail(StreamAbortedError(AbortCode.LINK_LOST, reason))

    def _apply(self, frame: Frame) -> Open | None:
        if self._ended_in and not isinstance(frame, Credit | Abort):
            raise FrameError("content after the end")
        match frame:
            case Open(kind):
                self.kind = kind
                return frame
            case Data(content):
                self._unread_bytes += len(content)
                if self._unread_bytes + self._owed_bytes > WINDOW_BYTES:
                    raise FrameError("more than was granted")
                if content and self._fault is None:
                    self._chunks.append(content)
                    if self._sink is None:
                        self._readable.set()
            case Credit(grant_bytes):
                self._credit_bytes += grant_bytes
                if self._credit_bytes > WINDOW_BYTES:
                    raise FrameError("more credit than bytes")
                self._send_backlog()
                self._writable.set()
            case End():
                self._ended_in = True
                self._readable.set()
                self._maybe_closed()
            case Abort(code, reason):
                if self._fault is None:
                    self._give_up(StreamAbortedError(code, reason))
        return None

    # --- inner ------------------------------------------------------------------------------------

    def _take(self, max_bytes: int) -> bytes:
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._unread_bytes -= len(chunk)
        self._owed_bytes += len(chunk)
        if not self._chunks and not self._ended_in and self._fault is None:
            self._readable.clear()
        if self._owed_bytes >= _GRANT_AT_BYTES and not self._ended_in and self._fault is None:
            owed, self._owed_bytes = self._owed_bytes, 0
            self._send(Credit(owed))
        return chunk

    def _take_all(self) -> bytes:
        """Return everything unread as one piece: tokens that came together leave together."""
        if len(self._chunks) > 1:
            whole = b"".join(self._chunks)
            self._chunks.clear()
            self._chunks.append(whole)
        return self._take(WINDOW_BYTES)

    def _send_backlog(self, *, lazily: bool = False) -> bool:
        """Send what the credit allows of the backlog; return whether nothing waits there any more."""
        while self._backlog and self._credit_bytes:
            content = self._backlog.popleft()
            size = min(self._credit_bytes, frames.MAX_DATA_BYTES)
            if len(content) > size:
                self._backlog.appendleft(content[size:])
                content = content[:size]
            self._credit_bytes -= len(content)
            self._send(Data(content), lazily=lazily)
        return not self._backlog

    async def _wait(self, event: asyncio.Event, limit_s: float | None, what: str) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await event.wait()
        except TimeoutError:
            self.abort(AbortCode.STALLED, f"the other side {what} for {limit_s:g} s")

    def _give_up(self, fault: StreamAbortedError, last_words: bytes = b"") -> None:
        """Fail, and let go of both directions, so that aioquic can forget the stream."""
        self._fault = fault
        self._carrier.abandon(self.stream_id, fault.code, last_words)
        self._fail(fault)

    def _fail(self, fault: StreamAbortedError) -> None:
        self._fault = fault
        self._backlog.clear()
        self._readable.set()
        self._writable.set()
        self._carrier.stream_closed(self)
        on_fault, self.on_fault = self.on_fault, None
        if on_fault is not None:
            on_fault(fault)

    def _maybe_closed(self) -> None:
        if self._ended_in and self._ended_out:
            self._carrier.send_bytes(self.stream_id, b"", finish=True)
            self._carrier.stream_closed(self)

    def _send(self, frame: Frame, *, lazily: bool = False) -> None:
        self._carrier.send_bytes(self.stream_id, frames.encode(frame), finish=False, lazily=lazily)
