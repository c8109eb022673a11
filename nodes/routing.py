"""The console's websockets, as one ASGI application."""

from typing import Any

from nodes.consumers import TopologyConsumer
from nodes.runtime.handle import AsgiApp


def websocket_application() -> AsgiApp:
    """Return the application for websockets; a path that is not ours is refused, not an exception."""
    topology = TopologyConsumer.as_asgi()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"].rstrip("/") == "/ws/topology":
            await topology(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.close", "code": 4404})

    return application
