"""The API's own HTTP server: listening sockets, the sweep of deadlines, and an orderly stop.

Why not uvicorn's protocol: docs/decisions/0001-api-front.md. Any ASGI 3 application can be served.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from time import monotonic
from typing import Any, Protocol

from proxy.config import ApiConfig
from proxy.front_connection import HttpConnection

log = logging.getLogger(__name__)

LISTEN_BACKLOG = 1024
"""Connections that the system queues before they are accepted."""
REFUSED_CONNECTIONS_MAX = 128
"""Connections over the limit that are told so at a time; further ones are cut without a word."""
FLUSH_S = 2.0
"""After the grace: how long the last error events may take to leave."""
FAILURE_LOG_INTERVAL_S = 1.0
"""The application's own failures are logged at most this often."""


class ServedApp(Protocol):
    """An ASGI application that can be asked to wind up."""

    def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> Awaitable[None]: ...

    def refuse_new(self) -> None: ...

    def interrupt(self, reason: str) -> int: ...


class ApiServer:
    """Serves an application on sockets that are already bound."""

    def __init__(self, app: ServedApp, sockets: list[socket.socket], config: ApiConfig) -> None:
        """Takes the sockets over: they are closed by `stop`."""
        self.app = app
        self.config = config
        self.stopping = False
        """Whether answers announce the end of their connection."""
        self.date_line = b""
        """The Date header's line of this second."""
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        self._connections: set[HttpConnection] = set()
        self._changed = asyncio.Event()
        """Set whenever a connection has gone."""
        self._sweep: asyncio.TimerHandle | None = None
        self._logged_s = -FAILURE_LOG_INTERVAL_S

    async def start(self) -> None:
        """Listen. Raises OSError when a socket cannot."""
        loop = asyncio.get_running_loop()
        self._on_sweep()
        for sock in self._sockets:
            server = await loop.create_server(
                lambda: HttpConnection(self), sock=sock, backlog=LISTEN_BACKLOG
            )
            self._servers.append(server)

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, let running answers finish for `grace_s`, then end them with an error.

        Streams get an SSE error event, unanswered requests a 503. Idle connections close at once.
        """
        self.stopping = True
        self.app.refuse_new()
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.close_when_idle()
        if not await self._gone_within(grace_s):
            ended = self.app.interrupt("The node is stopping; ask again or ask another node.")
            log.info("stopping: %d running requests were ended", ended)
            if not await self._gone_within(FLUSH_S):
                for connection in tuple(self._connections):
                    connection.abort()
                await self._gone_within(FLUSH_S)
        if self._sweep is not None:
            self._sweep.cancel()

    def open_connections(self) -> int:
        """Return how many clients are connected."""
        return len(self._connections)

    # --- for its connections ---------------------------------------------------------------------

    def admit(self, connection: HttpConnection) -> bool:
        """Take a new connection in; return False when there are too many already."""
        count = len(self._connections)
        if count >= self.config.connections_limit + REFUSED_CONNECTIONS_MAX:
            connection.abort()
            return False
        self._connections.add(connection)
        return count < self.config.connections_limit

    def forget(self, connection: HttpConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._changed.set()

    def note_failure(self, error: Exception) -> None:
        """Log that the application raised; an answer cut on purpose is not news."""
        now = monotonic()
        if now - self._logged_s >= FAILURE_LOG_INTERVAL_S:
            self._logged_s = now
            log.warning("a request failed: %r", error, exc_info=error)

    async def _gone_within(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                while self._connections:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _on_sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self.date_line = b"date: %b\r\n" % formatdate(usegmt=True).encode("ascii")
        now = loop.time()
        for connection in tuple(self._connections):
            connection.sweep(now)
        self._sweep = loop.call_later(self.config.sweep_interval_s, self._on_sweep)
