"""One request and its answer on a client's connection: ASGI's `receive` and `send`.

Decides how the answer is framed (RFC 9112 section 6: Content-Length, chunked, or until the close)
and when `send` waits. The connection tells it what arrives; it tells the connection what to write.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from proxy.inbound import ON_DISCONNECT, WRITE_NOW

if TYPE_CHECKING:
    from proxy.front_connection import HttpConnection

_REASONS = {
    s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode("ascii")) for s in HTTPStatus
}
_JOIN_MAX_BYTES = 16 * 1024
"""Pieces up to this size are joined into one write; larger ones are not copied."""

Message = dict[str, Any]


def status_line(status: int) -> bytes:
    """Return the first line of an answer."""
    return _REASONS.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


class FrontExchange:
    """One request from its headers to the end of its answer."""

    __slots__ = (
        "_between_events",
        "_body",
        "_buffered",
        "_chunked",
        "_connection",
        "_disconnected",
        "_end_said",
        "_events",
        "_head",
        "_left",
        "_on_gone",
        "_waiter",
        "answer_done",
        "began_s",
        "body_done",
        "canned",
        "expects_continue",
        "keep_alive",
        "scope",
        "started",
    )

    def __init__(self, connection: "HttpConnection", scope: dict[str, Any], began_s: float) -> None:
        self._connection = connection
        self.scope = scope
        scope["extensions"] = {WRITE_NOW: self.write_now, ON_DISCONNECT: self.on_disconnect}
        self.began_s = began_s
        """Loop time at which its headers were complete."""
        self.canned: bytes | None = None
        """A whole answer made by the front itself: the request never reaches the application."""
        self.keep_alive = True
        self.expects_continue = False
        self.started = False
        """Whether any byte of the answer was written."""
        self.answer_done = False
        self.body_done = False
        self._body: deque[bytes] = deque()
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._disconnected = False
        self._end_said = False
        self._on_gone: Callable[[], None] | None = None
        self._head: list[bytes] | None = None
        self._chunked = False
        self._events = False
        self._between_events = False
        self._left: int | None = None
        """Bytes of a sized answer still to come; None: the answer is not sized."""

    # --- the request's body ----------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """Body bytes that the application has not taken yet."""
        return self._buffered

    def add_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if not self.answer_done:
            self._body.append(data)
            self._buffered += len(data)
            self._wake()

    def finish_body(self) -> None:
        """The body is whole."""
        self.body_done = True
        self._wake()

    def disconnect(self) -> None:
        """The client has gone: `receive` says so, `send` writes nothing more."""
        self._disconnected = True
        self._body.clear()
        self._buffered = 0
        self._wake()
        if self._on_gone is not None and not self.answer_done:
            self._on_gone()

    def on_disconnect(self, gone: Callable[[], None]) -> None:
        """Call `gone` once the client has gone before the answer's end; at once if it has."""
        self._on_gone = gone
        if self._disconnected:
            gone()

    def release(self) -> None:
        """The application has ended: let go of what refers back to this object."""
        self.scope.pop("extensions", None)
        self._on_gone = None

    def can(self, answer: bytes) -> None:
        """Answer with these bytes instead of the application, which is told the client has gone."""
        self.canned = answer
        self.disconnect()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Message:
        """Return the next piece of the body; after its end, wait for the disconnect."""
        if not self._body and not self.body_done and self.expects_continue and not self.started:
            self.expects_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self._disconnected or self.answer_done:
                return {"type": "http.disconnect"}
            if self._body:
                return self._take()
            if self.body_done and not self._end_said:
                self._end_said = True
                return {"type": "http.request", "body": b"", "more_body": False}
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _take(self) -> Message:
        chunks = self._body
        data = chunks.popleft()
        self._buffered -= len(data)
        more = bool(chunks) or not self.body_done
        self._end_said = not more
        self._connection.body_taken()
        return {"type": "http.request", "body": data, "more_body": more}

    # --- the answer ------------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """Write a part of the answer; waits while the client does not read."""
        if self._disconnected or self.answer_done:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
            return
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            if body or self._head is not None:
                self._write(body, last=False)
        else:
            self._write(body, last=True)
            self._finish()
        if self._connection.write_paused:
            await self._connection.drained()

    def write_now(self, data: bytes) -> bool:
        """Write a piece of the begun answer's body; return False once the client is slow."""
        if not self._disconnected:
            self._write(data, last=False)
        return not self._connection.write_paused

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert self._head is None and not self.started, "an answer starts once"
        lines = [status_line(status), self._connection.date_line()]
        for name, value in headers:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                self._left = int(value)
            elif name == b"content-type":
                self._events = value.startswith(b"text/event-stream")
        bodiless = self.scope["method"] == "HEAD" or status in (204, 304)
        if bodiless:
            self._left = 0
        elif self._left is None:
            self._chunked = self.scope["http_version"] == "1.1"
            if self._chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keep_alive = False
        self.keep_alive = self.keep_alive and self._connection.may_keep_alive(self)
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self.scope["http_version"] == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._head = lines

    def _write(self, body: bytes, *, last: bool) -> None:
        parts = self._head or []
        self._head = None
        self.started = True
        if self._left is not None:
            body = body[: self._left]
            self._left -= len(body)
            parts.append(body)
        elif self._chunked:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if last:
                parts.append(b"0\r\n\r\n")
        else:
            parts.append(body)
        if self._events and body:
            self._between_events = body.endswith(b"\n\n")
        if len(body) <= _JOIN_MAX_BYTES:
            self._connection.write(b"".join(parts))
        else:
            self._connection.write_parts(parts)

    def probe_bytes(self) -> bytes:
        """Return what makes a client that has gone answer with a reset, and harms no other."""
        if not self.started:
            one_one = self.scope.get("http_version") == "1.1"
            return b"HTTP/1.1 102 Processing\r\n\r\n" if one_one else b""
        if self._between_events and not self.answer_done:
            return b"3\r\n:\n\n\r\n" if self._chunked else b":\n\n"
        return b""

    def _finish(self) -> None:
        if self._left:  # fewer bytes than announced: never a clean end
            self._connection.abort()
            return
        self.answer_done = True
        self._body.clear()
        self._buffered = 0
        self._wake()
