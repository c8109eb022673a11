"""`POST /api/chat`: the chat of the console, streamed through the API in process.

What the page sends is an OpenAI chat body. What it gets is server-sent events: ``text`` and
``reasoning`` (pieces), ``html`` (safe rendering of finished blocks and the open end), ``done`` and
``error``. Leaving the page closes the answer, which cancels the call, which frees the slot.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.http import require_POST

from nodes.chat_call import ApiCall, ApiRefusal
from nodes.markup import GrowingMessage
from nodes.middleware import refuse
from nodes.runtime import handle as node_handle
from nodes.runtime.handle import NodeHandle

CHAT_BODY_MAX_BYTES = 4 * 2**20
"""A conversation that a page sends, its pictures included (`console_bounds.BODY_MAX_BYTES`)."""

CHATS_MAX = 32
"""Chats of pages under way at once; a further one is asked to come back."""

RENDER_INTERVAL_S = 0.2
"""At most five renderings a second of a growing message."""

RENDER_SHARE_MAX = 0.1
"""Of the loop's time, what rendering one message may take: a long list is rendered more seldom."""

_under_way: set[object] = set()


@require_POST
async def chat(request: HttpRequest) -> HttpResponseBase:
    """Stream the answer to an OpenAI chat body."""
    handle = node_handle.current()
    if handle is None:
        return refuse(503, "node_not_running", "The node is not running in this process.")
    if int(request.headers.get("Content-Length") or 0) > CHAT_BODY_MAX_BYTES:
        return refuse(413, "too_large", "This conversation is too long to send: begin a new one.")
    try:
        asked = json.loads(request.body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict) or not isinstance(asked.get("messages"), list):
        return refuse(400, "bad_body", "Send an OpenAI chat body with messages.")
    if len(_under_way) >= CHATS_MAX:
        return refuse(429, "too_many_chats", "Too many chats at once: try again in a moment.")
    body = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    response = StreamingHttpResponse(
        _answer(handle, body), content_type="text/event-stream; charset=utf-8"
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _event(kind: str, **values: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(values, separators=(',', ':'))}\n\n".encode()


async def _answer(handle: NodeHandle, body: dict[str, Any]) -> AsyncIterator[bytes]:
    mark = object()
    _under_way.add(mark)
    call = ApiCall(handle.api, handle.home_secret, body)
    try:
        async for event in _Answer(call).events():
            yield event
    except ApiRefusal as refusal:
        yield _event("error", message=refusal.text, code=refusal.code)
    finally:
        _under_way.discard(mark)
        await call.close()


class _Answer:
    """One answer on its way: counts, renders and says how it ended."""

    def __init__(self, call: ApiCall) -> None:
        self._call = call
        self._message = GrowingMessage()
        self._rendered_at = 0.0
        self._pause_s = RENDER_INTERVAL_S
        self._dirty = False
        self._first_at: float | None = None
        self._pieces = 0
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._finish: str | None = None

    async def events(self) -> AsyncIterator[bytes]:
        chunks = self._call.chunks().__aiter__()
        pending: asyncio.Task[dict[str, Any]] | None = None
        try:
            while True:
                pending = pending or asyncio.ensure_future(anext(chunks))
                await asyncio.wait({pending}, timeout=self._render_wait_s())
                if not pending.done():
                    yield self._render()
                    continue
                try:
                    chunk = pending.result()
                except StopAsyncIteration:
                    break
                finally:
                    pending = None
                for event in self._take(chunk):
                    yield event
                if self._dirty and self._render_wait_s() == 0:
                    yield self._render()
        finally:
            if pending is not None:
                pending.cancel()
                with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, ApiRefusal):
                    await pending
        yield self._render()
        yield self._done()

    def _take(self, chunk: dict[str, Any]) -> list[bytes]:
        if isinstance(chunk.get("error"), dict):
            raise ApiRefusal.from_error(chunk["error"])
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        if isinstance(chunk.get("timings"), dict):
            self._timings = chunk["timings"]
        choices = chunk.get("choices") or []
        first = choices[0] if choices and isinstance(choices[0], dict) else {}
        self._finish = first.get("finish_reason") or self._finish
        delta = first.get("delta") or {}
        events = []
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            self._count()
            events.append(_event("reasoning", text=reasoning))
        text = delta.get("content")
        if isinstance(text, str) and text:
            self._count()
            self._message.add(text)
            self._dirty = True
            events.append(_event("text", text=text))
        return events

    def _count(self) -> None:
        self._first_at = self._first_at or time.monotonic()
        self._pieces += 1

    def _render_wait_s(self) -> float | None:
        if not self._dirty:
            return None
        return max(0.0, self._rendered_at + self._pause_s - time.monotonic())

    def _render(self) -> bytes:
        began = time.monotonic()
        first, blocks = self._message.blocks()
        self._rendered_at, self._dirty = time.monotonic(), False
        self._pause_s = max(RENDER_INTERVAL_S, (self._rendered_at - began) / RENDER_SHARE_MAX)
        return _event("html", first=first, blocks=blocks)

    def _done(self) -> bytes:
        speed = self._timings.get("predicted_per_second")
        if not isinstance(speed, int | float):
            tokens = self._usage.get("completion_tokens") or self._pieces
            elapsed_s = time.monotonic() - (self._first_at or time.monotonic())
            speed = tokens / elapsed_s if elapsed_s > 0.001 else None
        return _event(
            "done",
            tokens_per_s=round(speed, 1) if speed else None,
            node=self._call.node,
            usage=self._usage,
            finish_reason=self._finish,
        )
