"""The bytes of every answer: heads as llama-server sends them, bodies rendered once.

The token is always the same, so that a client can count it in the raw stream wherever a proxy cut it.
"""

import json
from functools import lru_cache
from typing import Any

TOKEN = " qz"
"""One token's text. Occurs nowhere else in an answer."""

_HEAD = "HTTP/1.1 {status}\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n"
_KEEP = "Keep-Alive: timeout=5, max=100\r\n"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error",
            501: "Not Implemented", 503: "Service Unavailable"}  # fmt: skip

STREAM_HEAD = (
    _HEAD.format(status="200 OK")
    + "X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    + _KEEP
    + "\r\n"
).encode()
STREAM_END = b"0\r\n\r\n"
CREATED = 1_700_000_000


def document(body: Any, status: int = 200) -> bytes:
    """Return a whole JSON answer, head and body."""
    data = json.dumps(body, separators=(",", ":")).encode()
    return raw(data, "application/json; charset=utf-8", status)


def raw(data: bytes, content_type: str, status: int = 200) -> bytes:
    """Return a whole answer of any content type, head and body."""
    head = _HEAD.format(status=f"{status} {_REASONS.get(status, 'Error')}")
    head += f"Content-Type: {content_type}\r\nContent-Length: {len(data)}\r\n{_KEEP}\r\n"
    return head.encode() + data


def error(status: int, message: str, kind: str) -> bytes:
    """Return llama-server's error object."""
    return document({"error": {"code": status, "message": message, "type": kind}}, status)


LOADING = error(503, "Loading model", "unavailable_error")


def event(body: Any) -> bytes:
    """Return one SSE event as one HTTP chunk."""
    text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    data = f"data: {text}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


DONE = event("[DONE]")


def _piece(model: str, chat: bool, part: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"finish_reason": finish, "index": 0}
    choice |= {"delta": part} if chat else {"text": part.get("content", "")}
    return {
        "choices": [choice],
        "created": CREATED,
        "id": "chatcmpl-fake",
        "model": model,
        "system_fingerprint": "b0-fake",
        "object": "chat.completion.chunk" if chat else "text_completion",
    }


@lru_cache(maxsize=64)
def opening(model: str, chat: bool) -> bytes:
    """Return what precedes the tokens: the role event of a chat, nothing of a completion."""
    return event(_piece(model, chat, {"role": "assistant", "content": None}, None)) if chat else b""


@lru_cache(maxsize=64)
def token(model: str, chat: bool, chunk_bytes: int) -> bytes:
    """Return one token's event, padded by an extra field to about `chunk_bytes`."""
    body = _piece(model, chat, {"content": TOKEN}, None)
    if chunk_bytes:
        body["padding"] = "x" * max(0, chunk_bytes - 240)
    return event(body)


@lru_cache(maxsize=64)
def closing(model: str, chat: bool, tokens: int) -> bytes:
    """Return the finish event, ``[DONE]`` and the end of the chunked body."""
    last = _piece(model, chat, {}, "length")
    last["timings"] = {"predicted_n": tokens, "predicted_per_second": 1000.0}
    return event(last) + DONE + STREAM_END


@lru_cache(maxsize=64)
def whole(model: str, chat: bool, tokens: int) -> bytes:
    """Return a non-streamed completion of `tokens` tokens."""
    choice: dict[str, Any] = {"finish_reason": "length", "index": 0}
    text = TOKEN * tokens
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    usage = {"completion_tokens": tokens, "prompt_tokens": 4, "total_tokens": tokens + 4}
    body = _piece(model, chat, {}, None) | {"choices": [choice], "usage": usage}
    return document(body | {"object": "chat.completion" if chat else "text_completion"})


def embeddings(model: str) -> bytes:
    """Return one small embedding."""
    item = {"object": "embedding", "index": 0, "embedding": [0.5, 0.5, 0.5, 0.5]}
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return document({"object": "list", "data": [item], "model": model, "usage": usage})
