"""A foreign server that listens wider than the node was told: strangers stay outside."""

from typing import Any

import pytest

from meshsite.asgi import Application


class Node:
    def __init__(self, loopback_only: bool) -> None:
        self.loopback_only = loopback_only
        self.served: list[str] = []

    async def api(self, scope: Any, receive: Any, send: Any) -> None:
        self.served.append("api")

    async def console(self, scope: Any, receive: Any, send: Any) -> None:
        self.served.append("console")


async def ask(node: Node, client: str | None, path: str = "/v1/models", kind: str = "http") -> list:
    application = Application()
    application._node = node  # type: ignore[assignment]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "client": [client, 5000] if client else None}
    await application(scope, None, send)
    return sent


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1", None])
async def test_this_machine_is_served(client: str | None) -> None:
    node = Node(loopback_only=True)
    assert await ask(node, client) == []
    assert await ask(node, client, "/") == []
    assert node.served == ["api", "console"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_stranger_is_refused_on_a_loopback_node(kind: str) -> None:
    node = Node(loopback_only=True)
    sent = await ask(node, "192.0.2.7", "/ws/topology", kind)
    assert node.served == []
    assert sent[0].get("status") == 403 or sent[0]["type"] == "websocket.close"


async def test_stranger_is_let_through_where_the_operator_opened_the_node() -> None:
    node = Node(loopback_only=False)
    await ask(node, "192.0.2.7")
    assert node.served == ["api"]
