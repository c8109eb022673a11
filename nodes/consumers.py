"""Channels consumers: the operator's door to the node, and the browser's live view.

Facts of the libraries that shaped this (measured, see design.md): Channels awaits a consumer's
handlers one after another and drops a consumer that raises; Daphne's `send` never waits for a slow
client. So operator messages are answered by tasks of their own, every handler catches, and the live
view counts what the browser has not acknowledged.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from asgiref.sync import sync_to_async
from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer

from nodes import access
from nodes.live_view import LiveView
from nodes.runtime import handle as node_handle
from nodes.runtime.handle import NodeHandle, OperatorResult
from nodes.runtime.operate import operate
from nodes.runtime.web_guard import host_allowed, origin_allowed

logger = logging.getLogger(__name__)

CLIENT_MESSAGE_MAX_CHARS = 2_000
"""A message of a browser; a longer one closes the connection."""

CLIENT_MESSAGES_PER_S_MAX = 50
"""Messages of one browser within a second; more than that closes the connection."""

OPERATOR_TASKS_MAX = 16
"""Operator messages under way at once; a further one is refused and said in the history."""

LAYER_RETRY_S = (0.2, 30.0)
"""First and longest wait after the channel layer failed."""

RECHECK_S = 60.0
"""Beyond loopback an open view is asked again after this long whether its viewer may still see it."""

CLOSE_REFUSED = 4403
CLOSE_FLOODED = 4408


def _header(scope: dict[str, Any], name: bytes) -> str | None:
    for key, value in scope.get("headers", []):
        if key.lower() == name:
            return bytes(value).decode("latin-1")
    return None


async def websocket_allowed(scope: dict[str, Any], handle: NodeHandle) -> bool:
    """Return whether this handshake comes under our name, from our page, from one who may view."""
    host = _header(scope, b"host") or ""
    if not host_allowed(host, handle.host_names):
        return False
    if not origin_allowed(_header(scope, b"origin"), host, handle.cors_origins):
        return False
    if handle.loopback_only:
        return True
    try:
        jar = SimpleCookie(_header(scope, b"cookie") or "")
    except CookieError:
        jar = SimpleCookie()
    cookies = {name: morsel.value for name, morsel in jar.items()}
    authorization = _header(scope, b"authorization") or ""
    return await sync_to_async(access.websocket_may_view)(cookies, authorization)


class TopologyConsumer(AsyncWebsocketConsumer):
    """`/ws/topology`: one snapshot, then deltas, history and log lines, a few times a second."""

    view: LiveView | None = None
    _recheck: "asyncio.Task[None] | None" = None
    _window_started: float = 0.0
    _window_count: int = 0

    async def connect(self) -> None:
        """Accept our own pages and let the view begin; refuse everything else."""
        handle = node_handle.current()
        if handle is None or not await websocket_allowed(self.scope, handle):
            await self.close(CLOSE_REFUSED)
            return
        await self.accept()
        self.view = LiveView(handle, self._send_json, self._close)
        self.view.start()
        if not handle.loopback_only:
            self._recheck = asyncio.create_task(self._recheck_for_ever(handle))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take an ack, a resync or a log subscription; anything else closes the connection."""
        if self.view is None:
            return
        if text_data is None or len(text_data) > CLIENT_MESSAGE_MAX_CHARS or self._flooded():
            await self.close(CLOSE_FLOODED)
            return
        try:
            message = json.loads(text_data)
        except ValueError:
            message = None
        if not isinstance(message, dict) or not self.view.take(message):
            await self.close(CLOSE_FLOODED)

    async def disconnect(self, code: int) -> None:
        """End the view."""
        if self._recheck is not None:
            self._recheck.cancel()
        if self.view is not None:
            await self.view.stop()
            self.view = None

    async def _recheck_for_ever(self, handle: NodeHandle) -> None:
        """Close a view whose login ended, whose account was closed or whose session expired."""
        while True:
            await asyncio.sleep(RECHECK_S)
            if not await websocket_allowed(self.scope, handle):
                await self.close(CLOSE_REFUSED)
                return

    async def _send_json(self, message: dict[str, Any]) -> int:
        text = json.dumps(message, separators=(",", ":"), default=list)
        await self.send(text_data=text)
        return len(text)

    async def _close(self, code: int) -> None:
        await self.close(code)

    def _flooded(self) -> bool:
        now = time.monotonic()
        if now - self._window_started > 1:
            self._window_started, self._window_count = now, 0
        self._window_count += 1
        return self._window_count > CLIENT_MESSAGES_PER_S_MAX


class GossipConsumer(AsyncConsumer):
    """Channel `mesh.<node id>`: starts the driver, then hands operator messages to the node at once."""

    def __init__(self, start_driver: Callable[[], None] | None = None) -> None:
        self._start_driver = start_driver
        self._tasks: set[asyncio.Task[None]] = set()

    async def mesh_start(self, message: dict[str, Any]) -> None:
        """Start the driver as a task of the composition root's: it outlives this consumer."""
        if self._start_driver is not None:
            self._start_driver()

    async def operator_message(self, message: dict[str, Any]) -> None:
        """Begin what an operator asked for; its outcome goes into the node's history."""
        handle = node_handle.current()
        if handle is None:
            return
        payload = message.get("payload")
        payload = payload if isinstance(payload, dict) else {}
        if len(self._tasks) >= OPERATOR_TASKS_MAX:
            _record(handle, payload, OperatorResult(False, "Too many actions at once: try again."))
            return
        task = asyncio.create_task(_carry_out(handle, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _carry_out(handle: NodeHandle, payload: dict[str, Any]) -> None:
    try:
        target = payload.get("target", payload.get("model", ""))
        result = await operate(handle, str(payload.get("action", "")), str(target))
    except Exception:
        logger.exception("operator message failed")
        result = OperatorResult(False, "The action failed inside the node; its log says why.")
    _record(handle, payload, result)


def _record(handle: NodeHandle, payload: dict[str, Any], result: OperatorResult) -> None:
    handle.feed.record(
        {
            "at": time.time(),
            "kind": "operator_action",
            "level": "info" if result.ok else "warning",
            "text": result.text,
            "model": str(payload.get("model", ""))[:300],
            "node": str(payload.get("node", ""))[:64],
        }
    )


async def run_gossip_channel(node_id: str, start_driver: Callable[[], None] | None = None) -> None:
    """Serve the channel ``mesh.<node id>`` until cancelled: Channels' worker pattern for one consumer.

    `start_driver` creates the driver's task and is called exactly once, layer or no layer; None where
    the composition root has started it already. A layer
    that fails is asked again with growing waits; a message that fails is logged and forgotten.
    """
    consumer = GossipConsumer(start_driver)
    await consumer.mesh_start({"type": "mesh.start"})
    wait_s = LAYER_RETRY_S[0]
    while True:
        try:
            message = await get_channel_layer().receive(f"mesh.{node_id}")
            wait_s = LAYER_RETRY_S[0]
            if message.get("type") == "operator.message":
                await consumer.operator_message(message)
        except Exception:
            # Redis away, a foreign message, a bug: none of it may take the node's door off its hinges.
            logger.exception("channel layer or operator message failed; asking again")
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LAYER_RETRY_S[1])
