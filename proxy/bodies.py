"""Request bodies: read whole, bounded each and all together, copied at most once."""

from collections.abc import Awaitable, Callable
from typing import Any

from proxy.config import MIB, ApiConfig
from proxy.openai import Fault, FaultKind
from proxy.records import Outcome

Receive = Callable[[], Awaitable[dict[str, Any]]]


class ClientGone(Exception):
    """The client left before its request was complete."""

    outcome = Outcome.CLIENT_GONE


class Bodies:
    """The budget of all request bodies in memory."""

    def __init__(self, config: ApiConfig) -> None:
        self._limit_bytes = config.body_limit_bytes
        self._total_limit_bytes = config.bodies_total_limit_bytes
        self._retry_after_s = config.retry_after_s
        self.held_bytes = 0
        """Bytes of all bodies now in memory; `release` what `read` returned."""

    async def read(self, receive: Receive, content_length: bytes | None) -> bytes:
        """Return the whole body, and hold its size until `release`.

        Raises Fault (413, 503), ClientGone.
        """
        if content_length is not None and content_length.isdigit():
            self._check(int(content_length))
        parts: list[bytes] = []
        size = 0
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                if part:
                    size += len(part)
                    self.held_bytes += len(part)
                    self._check(size)
                    parts.append(part)
        except BaseException:
            self.held_bytes -= size
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self, size: int) -> None:
        """Give back the size of a body that `read` returned."""
        self.held_bytes -= size

    def _check(self, size: int) -> None:
        if size > self._limit_bytes:
            text = f"The body is larger than {self._limit_bytes / MIB:.0f} MiB, the limit here."
            raise Fault(FaultKind.TOO_LARGE, text)
        if self.held_bytes > self._total_limit_bytes:
            text = "Too many large requests at once; try again shortly."
            raise Fault(FaultKind.OVERLOADED, text, retry_after_s=self._retry_after_s)
