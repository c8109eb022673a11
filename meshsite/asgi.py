"""One ASGI application that any server can serve: /v1 by the API, pages by Django, websockets.

`mesh-llm` serves its parts on two ports (`meshsite.boot`). Under any other server, such as
`daphne meshsite.asgi:application` or `uvicorn meshsite.asgi:application`, the first call (lifespan
or request) starts the node in that server's process, with the flags of the environment.
"""

import asyncio
import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "meshsite.settings")


from meshsite import control
from nodes.runtime.handle import AsgiApp
from nodes.runtime.web_guard import is_loopback

if TYPE_CHECKING:
    from meshsite.embedded import EmbeddedNode

API_PREFIXES = ("/v1/", control.PREFIX)
"""Paths of the API and of the command line's door; everything else is the console's."""


def console() -> AsgiApp:
    """Return pages, small API, admin and websockets; Django must be set up."""
    from channels.routing import ProtocolTypeRouter
    from django.core.asgi import get_asgi_application

    from nodes.routing import websocket_application

    made: AsgiApp = ProtocolTypeRouter(
        {"http": get_asgi_application(), "websocket": websocket_application()}
    )
    return made


class Application:
    """The whole node behind one ASGI callable."""

    def __init__(self) -> None:
        self._node: EmbeddedNode | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Route by path: the API's paths to the API, everything else to Django and Channels."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        node = await self._started()
        if node.loopback_only and not _from_this_machine(scope):
            await _refuse_stranger(scope, send)
        elif scope["type"] == "http" and scope["path"].startswith(API_PREFIXES):
            await node.api(scope, receive, send)
        else:
            await node.console(scope, receive, send)

    async def _started(self) -> "EmbeddedNode":
        async with self._starting:
            if self._node is None:
                from meshsite.embedded import EmbeddedNode

                self._node = await EmbeddedNode.start()
            return self._node

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._started()
                except Exception as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    raise
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._node is not None:
                    await self._node.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _from_this_machine(scope: Any) -> bool:
    client = scope.get("client")
    return client is None or is_loopback(str(client[0]).removeprefix("::ffff:"))


async def _refuse_stranger(scope: Any, send: Any) -> None:
    """Refuse a client from beyond loopback: the server listens wider than the node was told it does."""
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008})
        return
    text = (
        b"This node was started for its own machine. To open it, set MESH_LLM_HOST and "
        b"MESH_LLM_API_KEY for the server that runs it.\n"
    )
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": text})


application = Application()
