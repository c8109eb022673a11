"""The console on a real Daphne, on a loop in a thread of the test's process."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

from meshsite.console_server import ConsoleServer, install_reactor
from nodes.runtime import handle as node_handle
from tests.fakes.node_handle import ScriptedNode

_loop: asyncio.AbstractEventLoop | None = None


def _loop_thread() -> asyncio.AbstractEventLoop:
    """Return the loop that Twisted lives on: one for the process, for ever."""
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        install_reactor(_loop)
        threading.Thread(target=_loop.run_forever, name="console", daemon=True).start()
    return _loop


class ConsoleThread:
    """A scripted node and its console; `do` runs something on their loop."""

    def __init__(self, **fields: Any) -> None:
        self._loop = _loop_thread()
        self._fields = fields
        self._port = 0
        self.restart_node()
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def restart_node(self) -> None:
        """Put a fresh scripted node in place."""
        self.node = self._run(self._make())

    async def _make(self) -> ScriptedNode:
        return ScriptedNode(**self._fields).install()

    def do(self, work: Callable[[ScriptedNode], Any]) -> Any:
        """Run `work` on the node's loop and return what it returns."""

        async def call() -> Any:
            return work(self.node)

        return self._run(call())

    def open(self) -> None:
        """Serve, on the same port as before if there was one."""
        from meshsite.asgi import console

        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", self._port))
        self._port = bound.getsockname()[1]
        self._server = ConsoleServer(console(), [bound])
        self._run(self._server.start())

    def close(self) -> None:
        """Stop serving; the node stays."""
        self._run(self._server.stop(0.1))

    def end(self) -> None:
        """Stop serving and take the node away."""
        self.close()
        node_handle.install(None)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)
