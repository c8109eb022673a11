"""Bytes of one client to requests: heads, body pieces, ends; all bounded, anything odd is a Fault.

llhttp (through httptools) parses and refuses what smuggles requests (RFC 9112 section 11.2): both
Content-Length and Transfer-Encoding, repeated lengths, bare LF, spaces before a colon. It gathers
half headers without a bound of its own, so bytes are counted here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

import httptools

from proxy.openai import Fault, FaultKind

HEADERS_MAX = 256
"""Header lines of one request."""
FRAMING_MAX_BYTES = 64 * 1024
"""Chunk framing and trailers beyond six bytes for each body byte (one-byte chunks need six)."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request whose headers are complete."""

    scope: dict[str, Any]
    """What ASGI's scope has of the request itself."""
    keep_alive: bool
    expects_continue: bool


class RequestSink(Protocol):
    """Who is told what a client sent, in order."""

    def request_began(self, head: RequestHead) -> None: ...
    def request_body(self, data: bytes) -> None: ...
    def request_ended(self) -> None: ...


class RequestParser:
    """The parsing state of one connection."""

    def __init__(self, sink: RequestSink, head_limit_bytes: int, now: Callable[[], float]) -> None:
        self._sink = sink
        self._limit = head_limit_bytes
        self._now = now
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._in_head = False
        self._in_body = False
        self._head_bytes = 0
        self._fed_bytes = 0
        self._body_bytes = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self.head_began_s: float | None = None
        """When the first byte of an unfinished head came; None: no head is arriving."""
        self.body_moved_s = 0.0
        """When body bytes last came."""

    def feed(self, data: bytes) -> bool:
        """Parse bytes; return False when nothing after them can be parsed (an upgrade was asked).

        Raises Fault for anything that is not a proper request.
        """
        parser = self._parser
        if parser is None:
            return False
        if not self._in_body and self.head_began_s is None:
            if len(data) <= 2 and not data.strip(b"\r\n"):
                return True  # an empty line between requests is nothing (RFC 9112 section 2.2)
            self.head_began_s = self._now()
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return False  # h2c and websockets are not spoken: answered as HTTP/1.1
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Fault):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            text = f"This is not a valid HTTP/1.1 request: {error}."
            raise Fault(FaultKind.BAD_REQUEST, text) from None
        self._check_gathered(len(data))
        return True

    def close(self) -> None:
        """Let go of the parser, which holds this object: without it a cycle would stay."""
        self._parser = None

    def _check_gathered(self, fed: int) -> None:
        self._fed_bytes += fed
        if self._in_body:
            if self._fed_bytes - 6 * self._body_bytes > self._limit + FRAMING_MAX_BYTES:
                raise Fault(FaultKind.BAD_REQUEST, "Too much chunk framing or too many trailers.")
        elif self.head_began_s is None:
            self._fed_bytes = 0
        elif self._fed_bytes > self._limit:
            raise _head_too_large()

    # --- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True
        if self.head_began_s is None:
            self.head_began_s = self._now()
        self._head_bytes = 0
        self._fed_bytes = 0
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which nobody needs
            self._headers.append((name.lower(), value))
            self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        self._in_head = False
        self.head_began_s = None
        version: str = parser.get_http_version()
        expects = False
        for name, value in self._headers:
            if name == b"expect":
                expects = version == "1.1" and value.strip().lower() == b"100-continue"
            elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                raise Fault(FaultKind.BAD_REQUEST, "Only the transfer coding 'chunked' is known.")
        self._fed_bytes = self._body_bytes = 0
        self._in_body = True
        self.body_moved_s = self._now()
        head = RequestHead(self._scope(parser, version), parser.should_keep_alive(), expects)
        self._sink.request_began(head)

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        self.body_moved_s = self._now()
        self._sink.request_body(data)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._fed_bytes = 0
        self._sink.request_ended()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limit or len(self._headers) > HEADERS_MAX:
            raise _head_too_large()

    def _scope(self, parser: httptools.HttpRequestParser, version: str) -> dict[str, Any]:
        target = self._url
        if not target.startswith(b"/") and target != b"*":
            target = _origin_form(target)
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii", "replace")
        return {
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
        }


def _origin_form(target: bytes) -> bytes:
    """Return the path and query of an absolute-form target (RFC 9112 section 3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise Fault(FaultKind.BAD_REQUEST, "The request target is not a path.")
    slash = rest.find(b"/")
    return rest[slash:] if slash >= 0 else b"/"


def _head_too_large() -> Fault:
    return Fault(FaultKind.HEAD_TOO_LARGE, "The request line and headers are too large.")
