"""Daphne inside a loop that already runs: started and stopped like any other part of the node.

`install_reactor` must run before anything imports `daphne.server` or `twisted.internet.reactor`.
Source: daphne.server.Server.run, of which this is the part without `reactor.run()`.
"""

import asyncio
import socket
from typing import Any

from nodes.runtime.handle import AsgiApp

APPLICATION_CHECK_FIRST_S = 1
TIMEOUT_CHECK_FIRST_S = 2
WEBSOCKET_MESSAGE_MAX_BYTES = 64 * 1024
"""Browsers send resync requests and acknowledgements only."""
REQUEST_BUFFER_BYTES = 64 * 1024
BACKLOG = 128


def install_reactor(loop: asyncio.AbstractEventLoop) -> None:
    """Make Twisted use `loop`; once a process."""
    from twisted.internet import asyncioreactor

    asyncioreactor.install(loop)


class ConsoleServer:
    """One Daphne on sockets that are already bound."""

    def __init__(self, application: AsgiApp, sockets: list[socket.socket]) -> None:
        self._application = application
        self._sockets = sockets
        self._server: Any = None
        self._ports: list[Any] = []

    async def start(self) -> None:
        """Begin to answer. Needs the running loop that `install_reactor` was given."""
        from daphne.server import Server, WebSocketFactory
        from twisted.internet import reactor

        from meshsite.console_bounds import BoundedFactory, BoundedWebSocket

        server = Server(
            self._application,
            # Never opened (that is `run`'s work); without a word here Daphne ends the process.
            endpoints=["adopted sockets"],
            signal_handlers=False,
            request_buffer_size=REQUEST_BUFFER_BYTES,
            websocket_timeout=-1,
            ping_interval=20,
            ping_timeout=30,
            server_name="mesh-llm",
            application_close_timeout=5,
        )
        server.connections = {}
        server.http_factory = BoundedFactory(server)
        server.ws_factory = WebSocketFactory(server, server="mesh-llm")
        server.ws_factory.protocol = BoundedWebSocket
        server.ws_factory.setProtocolOptions(
            autoPingTimeout=server.ping_timeout,
            allowNullOrigin=True,
            openHandshakeTimeout=server.websocket_handshake_timeout,
            maxMessagePayloadSize=WEBSOCKET_MESSAGE_MAX_BYTES,
            maxFramePayloadSize=WEBSOCKET_MESSAGE_MAX_BYTES,
        )
        if not reactor.running:
            reactor.startRunning(installSignalHandlers=False)
        reactor.callLater(APPLICATION_CHECK_FIRST_S, server.application_checker)
        reactor.callLater(TIMEOUT_CHECK_FIRST_S, server.timeout_checker)
        for bound in self._sockets:
            bound.setblocking(False)
            bound.listen(BACKLOG)
            port = reactor.adoptStreamPort(bound.fileno(), bound.family, server.http_factory)
            bound.close()  # adoptStreamPort works on a duplicate
            self._ports.append(port)
        self._server = server

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, let pages finish for `grace_s`, then end what is left."""
        from twisted.internet import defer

        loop = asyncio.get_running_loop()
        for port in self._ports:
            await defer.maybeDeferred(port.stopListening).asFuture(loop)
        if self._server is None:
            return
        if running := self._open():
            await asyncio.wait(running, timeout=grace_s)
        left = self._open()
        for instance in left:
            instance.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for connection in list(self._server.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.loseConnection()

    def _open(self) -> list[asyncio.Future[None]]:
        instances = [d.get("application_instance") for d in self._server.connections.values()]
        return [i for i in instances if i is not None and not i.done()]
