"""One HTTP request on a connection of its own, with everything that came back and when."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httptools

READ_BYTES = 65_536
ERROR_MARK = b"event: error\ndata: "
DONE_MARK = b"[DONE]"


@dataclass(slots=True)
class Reply:
    """What came back. Times are seconds of the monotonic clock."""

    sent_s: float
    status: int = 0
    """0: the connection ended, or could not be made, before a status came."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended_s: float = 0.0
    """0: it never ended, the asker gave up."""
    whole: bool = False
    """The message ended as HTTP says that it ends."""

    @property
    def node(self) -> str:
        """The id of the node that answered; empty: nobody did."""
        return self.headers.get("x-mesh-node", "")

    @property
    def done(self) -> bool:
        """Whether a stream came to its end with all of its content."""
        return self.status == 200 and self.whole and DONE_MARK in self.body

    @property
    def told(self) -> bool:
        """Whether a stream ended with an explicit error."""
        return ERROR_MARK in self.body and DONE_MARK not in self.body

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


class _Reader:
    """Callbacks of httptools."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._reply.body += body

    def on_message_complete(self) -> None:
        self._reply.whole = True


async def ask(port: int, path: str, body: bytes | dict[str, Any], reply: Reply) -> Reply:
    """Fill `reply` while the answer comes; returns it at the end, whichever that is."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    )
    parser = httptools.HttpResponseParser(_Reader(reply))
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + payload)
        while not reply.whole and (piece := await reader.read(READ_BYTES)):
            parser.feed_data(piece)
            reply.status = parser.get_status_code()
    except OSError:
        pass
    finally:
        if writer is not None:
            writer.close()
    reply.ended_s = time.monotonic()
    return reply


async def answer(port: int, path: str, body: bytes | dict[str, Any]) -> Reply:
    """Return the reply of one request."""
    return await ask(port, path, body, Reply(time.monotonic()))
