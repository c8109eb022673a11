"""One streamed call of the /v1 application in process: ASGI in, decoded chunks out, bounded between."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from nodes.runtime.handle import AsgiApp

logger = logging.getLogger(__name__)

QUEUE_PIECES_MAX = 64
"""Body pieces between the API and the page's stream; at the bound the API waits (backpressure)."""

EVENT_MAX_BYTES = 1 * 2**20
"""One server-sent event of the engine; a longer one ends the call."""

NODE_HEADER = b"x-mesh-node"
"""The response header that names the node which answered."""


class ApiRefusal(Exception):
    """The API did not answer as hoped. Handled by the chat view, which shows `text`."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = code

    @classmethod
    def from_error(cls, error: dict[str, Any]) -> "ApiRefusal":
        """Return the refusal for an OpenAI error object."""
        text = str(error.get("message") or "The model's node gave no reason.")
        return cls(text, str(error.get("code") or error.get("type") or "error"))


class ApiCall:
    """`POST /v1/chat/completions` with `body`. Read `chunks` once, then `close`."""

    def __init__(self, api: AsgiApp, secret: str, body: dict[str, Any]) -> None:
        self.node = ""
        self._api = api
        self._body = json.dumps(body).encode()
        self._secret = secret
        self._status = 0
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_PIECES_MAX)
        self._gone = asyncio.Event()
        self._sent_body = False
        self._task: asyncio.Task[None] | None = None

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the decoded events.

        Raises:
            ApiRefusal: a status other than 200, an answer that ends without its end mark, or an event
                beyond EVENT_MAX_BYTES.
        """
        self._task = asyncio.create_task(self._run())
        buffer = b""
        while (piece := await self._pieces.get()) is not None:
            buffer = (buffer + piece).replace(b"\r\n", b"\n")
            if self._status != 200:
                continue
            *events, buffer = buffer.split(b"\n\n")
            for event in events:
                data = _data_of(event)
                if data == b"[DONE]":
                    return
                if data:
                    yield _decode(data)
            if len(buffer) > EVENT_MAX_BYTES:
                raise ApiRefusal("The model sent something too large to show.", "too_large")
        self._end(buffer)

    async def close(self) -> None:
        """Leave: what still runs hears of the disconnect and is ended. May be called twice."""
        self._gone.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _end(self, rest: bytes) -> None:
        if self._status == 200:
            raise ApiRefusal(
                "The answer broke off: the model's engine or its node went away.", "broken_off"
            )
        with contextlib.suppress(ValueError, AttributeError):
            error = json.loads(rest).get("error")
            if isinstance(error, dict):
                raise ApiRefusal.from_error(error)
        raise ApiRefusal(f"The API answered with status {self._status or 'none'}.", "api_error")

    async def _run(self) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"host", b"localhost"),
                (b"content-type", b"application/json"),
                (b"content-length", str(len(self._body)).encode()),
                (b"authorization", b"Bearer " + self._secret.encode()),
            ],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
        }
        try:
            await self._api(scope, self._receive, self._take)
        except Exception:
            logger.exception("the API failed under a chat of the console")
        finally:
            # The reader may be gone already; then nobody waits for the end mark.
            if not self._gone.is_set():
                await self._pieces.put(None)

    async def _receive(self) -> dict[str, Any]:
        if not self._sent_body:
            self._sent_body = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = dict(message.get("headers", []))
            self.node = headers.get(NODE_HEADER, b"").decode("latin-1")
        elif message["type"] == "http.response.body" and message.get("body"):
            await self._pieces.put(bytes(message["body"]))


def _data_of(event: bytes) -> bytes:
    lines = event.split(b"\n")
    return b"\n".join(line[5:].lstrip(b" ") for line in lines if line.startswith(b"data:"))


def _decode(data: bytes) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError:
        raise ApiRefusal("The model sent something that is not JSON.", "bad_answer") from None
    return chunk if isinstance(chunk, dict) else {}
