"""A client's request as ASGI hands it over, its headers sorted once into ours and the engine's.

PURE.
"""

from collections.abc import Callable
from typing import Any

from proxy.upstream import Header

WRITE_NOW = "mesh_llm.write_now"
"""ASGI extension of our front: a function that writes body bytes at once, without a task's turn.

It returns False once the client is slow; `send` waits for it then.
"""

ON_DISCONNECT = "mesh_llm.on_disconnect"
"""ASGI extension of our front: a function that takes what to call once the client has gone.

Saves a task per request that would wait for `http.disconnect`.
"""

NOT_FORWARDED = frozenset(
    b"host connection keep-alive transfer-encoding te trailer upgrade proxy-connection "
    b"proxy-authorization expect content-length origin authorization x-api-key cookie "
    b"accept-encoding x-request-id referer".split()
)
"""Request headers that end here: hop-by-hop ones, keys, and what would make the engine compress."""


class InboundRequest:
    """Method, path and headers of one request."""

    __slots__ = (
        "forwarded",
        "hosts",
        "method",
        "on_disconnect",
        "path",
        "seen",
        "target",
        "write_now",
    )

    def __init__(self, scope: dict[str, Any]) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        extensions = scope.get("extensions") or {}
        self.write_now: Callable[[bytes], bool] | None = extensions.get(WRITE_NOW)
        """What our own front offers besides `send`; None under other servers."""
        self.on_disconnect: Callable[[Callable[[], None]], None] | None
        self.on_disconnect = extensions.get(ON_DISCONNECT)
        raw: bytes = scope.get("raw_path") or self.path.encode("utf-8", "surrogateescape")
        query: bytes = scope.get("query_string", b"")
        raw = raw.partition(b"?")[0]
        self.target = raw + b"?" + query if query else raw
        """Path and query as the client wrote them."""
        self.hosts: list[bytes] = []
        """Every Host header: more than one is refused."""
        self.forwarded: list[Header] = []
        """The headers that go on to the engine."""
        self.seen: dict[bytes, bytes] = {}
        """The headers that end here, and those looked at on the way; the first of each name."""
        for name, value in scope["headers"]:
            if name == b"host":
                self.hosts.append(value)
            elif name in NOT_FORWARDED or name.startswith(b"access-control-"):
                self.seen.setdefault(name, value)
            else:
                if name == b"content-encoding":
                    self.seen.setdefault(name, value)
                self.forwarded.append((name, value))
