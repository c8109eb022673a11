"""What one client may cost the console's port: bounds on connections, headers, bodies and time.

Twisted reads a whole body into a temporary file before Daphne calls any application, and takes
however long the client likes. Here a request is refused while it is still coming in.

Imported by `ConsoleServer.start` only: Twisted's reactor must have been installed before.
Sources: twisted.web.http.HTTPChannel, daphne.http_protocol.WebRequest; RFC 9112 section 9.6 (why an
answer sent before the whole request was read needs a lingering close).
"""

from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.ws_protocol import WebSocketProtocol
from twisted.web.http import HTTPChannel

BODY_MAX_BYTES = 4 * 2**20
"""A request's body, by its Content-Length or as counted; the largest of ours is a kept conversation."""

HEADERS_MAX_BYTES = 32 * 2**10
HEADERS_MAX = 100
"""Request line and headers in all, and their number."""

HEADERS_DEADLINE_S = 10.0
"""From the first byte (or the connection) to the end of the headers, however steadily they drip."""

BODY_DEADLINE_S = 30.0
"""From the end of the headers to the end of the body."""

IDLE_S = 60.0
"""An open connection between two requests."""

LINGER_S = 2.0
"""After a refusal what still comes in is thrown away for this long, so that the answer can be read."""

CONNECTIONS_MAX = 256
"""Open connections, websockets among them; a further one is told to come back."""


class BoundedRequest(WebRequest):
    """Daphne's request, counting its body while it comes in."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._body_bytes = 0

    def handleContentChunk(self, data: bytes) -> None:
        """Keep the next piece, or refuse the whole when it grows beyond BODY_MAX_BYTES."""
        self._body_bytes += len(data)
        if self._body_bytes > BODY_MAX_BYTES:
            self.channel.refuse_body()
        elif not self.channel.refused:
            super().handleContentChunk(data)


class BoundedChannel(HTTPChannel):
    """Twisted's HTTP/1.1 connection with a deadline for each part of a request."""

    totalHeadersSize = HEADERS_MAX_BYTES
    maxHeaders = HEADERS_MAX
    abortTimeout = 5
    refused = False
    _receiving = False
    _deadline: Any = None

    def connectionMade(self) -> None:
        """Take the connection, or refuse it when too many are open."""
        super().connectionMade()
        if self.factory.has_room(self.transport):
            self._arm(HEADERS_DEADLINE_S)
        else:
            self._refuse(503, b"Service Unavailable", b"Too many connections to this console.")

    def dataReceived(self, data: bytes) -> None:
        """Parse what came; after a refusal throw it away."""
        if self.refused:
            return
        if not self._receiving and not self._handlingRequest:
            self._receiving = True
            self._arm(HEADERS_DEADLINE_S)
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        """Refuse a body that is announced too long before it comes in; else give it its time."""
        if self.length is not None and self.length > BODY_MAX_BYTES:
            self.requests[-1].gotLength(0)
            self.refuse_body()
            return
        super().allHeadersReceived()
        self._arm(BODY_DEADLINE_S)

    def allContentReceived(self) -> None:
        """Hand the request on, unless it was refused meanwhile."""
        if self.refused:
            return
        self._receiving = False
        self._arm(None)
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Wait for the next request, not for ever."""
        self._arm(IDLE_S)
        super().requestDone(request)

    def connectionLost(self, reason: Any) -> None:
        """Forget the deadline with the connection."""
        self._arm(None)
        super().connectionLost(reason)

    def refuse_body(self) -> None:
        """Answer 413 and close."""
        self._refuse(413, b"Content Too Large", b"This is more than the console takes.")

    def _late(self) -> None:
        self._deadline = None
        if self._receiving:
            self._refuse(408, b"Request Timeout", b"The request took too long to arrive.")
        else:
            self.timeoutConnection()

    def _refuse(self, status: int, phrase: bytes, text: bytes) -> None:
        if self.refused:
            return
        self.refused = True
        self.setTimeout(None)
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: %d\r\n\r\n%s\n" % (status, phrase, len(text) + 1, text)
        )
        # Closing with bytes unread would reset the connection and take the answer with it.
        self.transport.loseWriteConnection()
        self._arm(None)
        self._deadline = self.callLater(LINGER_S, self.transport.abortConnection)

    def _arm(self, after_s: float | None) -> None:
        if self.refused and after_s is not None:
            return
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None if after_s is None else self.callLater(after_s, self._late)


class BoundedFactory(HTTPFactory):
    """Daphne's factory, which knows how many connections are open."""

    protocol = BoundedChannel

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.timeOut = IDLE_S
        self._transports: set[Any] = set()

    def buildProtocol(self, addr: Any) -> Any:
        """Return a bounded connection."""
        made = super().buildProtocol(addr)
        made.requestFactory = BoundedRequest
        return made

    def has_room(self, transport: Any) -> bool:
        """Return whether one more connection is taken, and count it.

        Counted by transports that are connected: one that became a websocket never tells its former
        HTTP protocol that it was lost.
        """
        self._transports = {known for known in self._transports if known.connected}
        if len(self._transports) >= CONNECTIONS_MAX:
            return False
        self._transports.add(transport)
        return True


class BoundedWebSocket(WebSocketProtocol):
    """Daphne's websocket, whose bound on messages is for those that come in.

    Autobahn holds what is sent to the same bound, and the snapshot of a hundred machines is beyond it;
    what goes out has the bounds of `nodes.live_view`.
    """

    def sendMessage(self, payload: bytes, *args: Any, **kwargs: Any) -> None:
        """Send a message of any size."""
        bound: int = self.maxMessagePayloadSize  # type: ignore[has-type]
        self.maxMessagePayloadSize = 0
        try:
            super().sendMessage(payload, *args, **kwargs)
        finally:
            self.maxMessagePayloadSize = bound
