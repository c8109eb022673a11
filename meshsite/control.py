"""The command line's door on the API port: `/mesh/...`, open to whoever holds the home's secret.

Words such as `mesh-llm status` work with or without a console. Everything else goes to the API
untouched. Bodies are tiny and bounded.
"""

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from nodes.runtime.handle import NodeHandle
from nodes.runtime.operate import ACTIONS, operate
from proxy.asgi import ApiApp

PREFIX = "/mesh/"
BODY_MAX_BYTES = 16 * 1024

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class ControlApp:
    """An ASGI application in front of the API's."""

    def __init__(self, api: ApiApp, handle: NodeHandle) -> None:
        self._api = api
        self._handle = handle

    def __call__(self, scope: Any, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve `/mesh/...` here and everything else by the API, without a frame of ours in its way."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            return self._api(scope, receive, send)
        return self._serve(scope, receive, send)

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        status, document = await self._answer(scope, receive)
        body = json.dumps(document).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def refuse_new(self) -> None:
        """Wind up: the API's own."""
        self._api.refuse_new()

    def interrupt(self, reason: str) -> int:
        """Wind up: the API's own."""
        return self._api.interrupt(reason)

    async def _answer(self, scope: Any, receive: Receive) -> tuple[int, dict[str, Any]]:
        if not _is_ours(scope, self._handle.home_secret):
            return 403, {"ok": False, "text": "This needs the secret of the node's home."}
        word = scope["path"].removeprefix(PREFIX)
        if scope["method"] == "GET" and word == "status":
            return 200, self._handle.status(True)
        if scope["method"] != "POST":
            return 405, {"ok": False, "text": "Use GET for status, POST for actions."}
        try:
            asked = json.loads(await _body(receive))
            subject = str(asked.get("subject") or asked.get("model") or "")
        except (ValueError, AttributeError):
            return 400, {"ok": False, "text": "The body is not a JSON object."}
        if word not in ACTIONS:
            return 404, {"ok": False, "text": f"There is no action called {word[:40]}."}
        result = await operate(self._handle, word, subject, asked)
        document = {
            "ok": result.ok,
            "outcome": result.outcome,
            "text": result.text,
            **({"found": result.found} if result.found else {}),
        }
        return (200 if result.ok else 409), document


def _is_ours(scope: Any, secret: str) -> bool:
    given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
    return hmac.compare_digest(given, f"Bearer {secret}".encode())


async def _body(receive: Receive) -> bytes:
    """Return the body. Raises ValueError when it is too large or the client went away."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ValueError("the client went away")
        body += bytes(message.get("body", b""))
        if len(body) > BODY_MAX_BYTES:
            raise ValueError("the body is too large")
        if not message.get("more_body"):
            return body
