"""One raw HTTP client connection that stamps every token on arrival.

Nothing between the socket and the clock: an SDK or an HTTP library would add more than what is measured.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

import httptools

DONE_MARK = b"[DONE]"


@dataclass(slots=True)
class Answer:
    """What came back for one request."""

    sent_s: float
    status: int = 0
    first_byte_s: float | None = None
    """First byte of the body; None: none came."""
    token_times_s: list[float] = field(default_factory=list)
    done: bool = False
    """Of a stream: `[DONE]` was seen. Else: the whole body came."""
    lost: bool = False
    """The connection ended before the answer did."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, token_mark: bytes) -> None:
        self._mark = token_mark
        self._overlap = max(len(token_mark), len(DONE_MARK)) - 1
        self._tail = b""
        self._answer: Answer | None = None
        self._complete: asyncio.Future[None] | None = None
        self.alive = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.alive = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        if self._answer is not None and not self._answer.done:
            self._answer.lost = True
        self._finish()

    def data_received(self, data: bytes) -> None:
        self._now_s = time.monotonic()
        self._parser.feed_data(data)

    async def ask(self, request: bytes) -> Answer:
        """Send one request and return its answer when it has ended, whichever way."""
        answer = self.start(request)
        await self.complete()
        return answer

    async def complete(self) -> None:
        """Return when the answer of the last request has ended, whichever way."""
        assert self._complete is not None
        await self._complete

    def start(self, request: bytes) -> Answer:
        """Send one request and return its answer, which fills as bytes arrive."""
        self._parser = httptools.HttpResponseParser(self)
        self._tail = b""
        self._complete = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.monotonic())
        self.transport.write(request)
        return self._answer

    # httptools' callbacks

    def on_headers_complete(self) -> None:
        assert self._answer is not None
        self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        answer = self._answer
        assert answer is not None
        if answer.first_byte_s is None:
            answer.first_byte_s = self._now_s
        if self._mark:
            seen = self._tail + body
            fresh = seen.count(self._mark) - self._tail.count(self._mark)
            answer.token_times_s.extend([self._now_s] * fresh)
            if DONE_MARK in seen:
                answer.done = True
            self._tail = seen[-self._overlap :]

    def on_message_complete(self) -> None:
        assert self._answer is not None
        if not self._mark:
            self._answer.done = True
        if not self._parser.should_keep_alive():
            self.alive = False
            self.transport.close()
        self._finish()

    def _finish(self) -> None:
        if self._complete is not None and not self._complete.done():
            self._complete.set_result(None)


async def connect(host: str, port: int, token_mark: bytes) -> Connection:
    """Return an open connection. Raises OSError where nothing listens."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: Connection(token_mark), host, port)
    return protocol


def request_bytes(host: str, port: int, path: str, body: bytes, key: str = "") -> bytes:
    """Return a POST as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
    )
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    return head.encode() + b"\r\n" + body
