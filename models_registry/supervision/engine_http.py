"""One small HTTP request to an engine on this machine: its own connection, bounded, with a deadline.

Only for the supervisor's few questions. No pool: llama-server closes sockets that it announced as
kept alive, and a question to a frozen engine must not leave anything behind.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""The longest answer read; /props carries a chat template of some kilobytes."""


class NoAnswer(Exception):
    """The engine did not answer in time, refused, or answered nonsense."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine said."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON. Raises: NoAnswer when it is none."""
        try:
            return json.loads(self.body)
        except ValueError as fault:
            raise NoAnswer(f"the engine answered {self.status} without JSON") from fault


async def ask(
    port: int, path: str, body: dict[str, Any] | None = None, *, deadline_s: float
) -> Answer:
    """Return the answer to a GET, or to a POST when `body` is given.

    Raises:
        NoAnswer: with the reason; also when `deadline_s` passed.
    """
    try:
        async with asyncio.timeout(deadline_s):
            return await _exchange(port, path, body)
    except TimeoutError as fault:
        raise NoAnswer(f"no answer to {path} within {deadline_s:g} s") from fault
    except (OSError, ValueError, asyncio.IncompleteReadError) as fault:
        raise NoAnswer(f"no answer to {path}: {fault}") from fault


async def _exchange(port: int, path: str, body: dict[str, Any] | None) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024)
    try:
        writer.write(head.encode("ascii") + content)
        await writer.drain()
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        length: int | None = None
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        return Answer(status, await _body(reader, length))
    except (IndexError, asyncio.LimitOverrunError) as fault:
        raise ValueError("not an HTTP answer") from fault
    finally:
        # abort, not close: a frozen engine would never let a graceful close finish.
        writer.transport.abort()


async def _body(reader: asyncio.StreamReader, length: int | None) -> bytes:
    if length is not None:
        if not 0 <= length <= MAX_ANSWER_BYTES:
            raise ValueError("the answer is too long")
        return await reader.readexactly(length)
    read = bytearray()
    while chunk := await reader.read(64 * 1024):
        read += chunk
        if len(read) > MAX_ANSWER_BYTES:
            raise ValueError("the answer is too long")
    return bytes(read)
