"""One browser's live view of the feed: bounded, coalesced, acknowledged.

Frames to the browser, in order; `after` is the number that a change applies to, so that a gap shows:

- ``{"type": "snapshot", "seq", "state", "history"}``
- ``{"type": "delta", "seq", "after", "put", "drop"}``: all changes of one tick folded into one
- ``{"type": "history", "seq", "after", "entry"}``
- ``{"type": "log", "model", "first", "lines"}``: log lines, numbered from `first`
- every frame carries ``"n"``: 1, 2, 3 ... on this connection, for the acknowledgement

From the browser: ``{"type": "ack", "n"}``, ``{"type": "resync"}``, ``{"type": "log", "model"}`` (an
empty name ends the subscription). Knows nothing of Channels or Daphne.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from nodes.mesh.snapshot import State
from nodes.runtime.feed import DeltaMessage, HistoryMessage, Message, Reader, SnapshotMessage
from nodes.runtime.handle import NodeHandle

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""At most one round of frames in this time: four a second are plenty for eyes."""

UNACKNOWLEDGED_MAX = 8
"""Frames a browser may leave unread before nothing more is sent to it. Daphne buffers without end."""

SILENT_CLIENT_BYTES_MAX = 4 * 2**20
"""What a client that never acknowledges may be sent in all: then it is closed and may come again."""

ACK_TIMEOUT_S = 60.0
"""A browser that acknowledges nothing for this long is closed; it reconnects when its tab wakes."""

FRAMES_PER_ROUND_MAX = 300
"""Messages folded in one round: more than the feed keeps for one reader."""

LOG_LINES_MAX = 200
"""Log lines in one frame; what is older than that is skipped, and the numbers show it."""

CLOSE_UNREAD = 4409

Send = Callable[[dict[str, Any]], Awaitable[int]]
"""Sends one frame and returns its size in bytes."""


def fold(messages: list[Message], after: int) -> list[dict[str, Any]]:
    """Return the frames for these messages: runs of deltas become one. `after` is the last number sent."""
    frames: list[dict[str, Any]] = []
    for message in messages:
        match message:
            case SnapshotMessage(seq, state, history):
                frames = [
                    {"type": "snapshot", "seq": seq, "state": state, "history": list(history)}
                ]
            case DeltaMessage(seq, put, drop):
                if frames and frames[-1]["type"] == "delta":
                    _merge(frames[-1], seq, put, drop)
                else:
                    delta = {"type": "delta", "seq": seq, "after": after}
                    frames.append({**delta, "put": dict(put), "drop": list(drop)})
            case HistoryMessage(seq, entry):
                frames.append({"type": "history", "seq": seq, "after": after, "entry": entry})
        after = message.seq
    return frames


def _merge(frame: dict[str, Any], seq: int, put: State, drop: tuple[str, ...]) -> None:
    for key in drop:
        frame["put"].pop(key, None)
    frame["put"].update(put)
    gone = set(frame["drop"]) | set(drop)
    frame["drop"] = sorted(gone - set(put))
    frame["seq"] = seq


class LiveView:
    """The pump from feed and logs to one browser. `start` it once, `stop` it once."""

    def __init__(self, handle: NodeHandle, send: Send, close: Callable[[int], Awaitable[None]]):
        self._handle = handle
        self._send = send
        self._close = close
        self._reader: Reader = handle.feed.reader()
        self._sent = 0
        self._bytes = 0
        self._acked = 0
        self._seq = 0
        self._room = asyncio.Event()
        self._log_model = ""
        self._log_after = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._pending: asyncio.Queue[Message] = asyncio.Queue(maxsize=1)

    def start(self) -> None:
        """Begin to send."""
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._pump())]

    async def stop(self) -> None:
        """Leave the feed and end. Returns when nothing of this view runs any more."""
        self._reader.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, message: dict[str, Any]) -> bool:
        """Take one message of the browser; return False for one that is not ours."""
        match message:
            case {"type": "ack", "n": int(n)}:
                self._acked = max(self._acked, min(n, self._sent))
                self._room.set()
            case {"type": "resync"}:
                self._reader.resync()
            case {"type": "log", "model": str(model)}:
                self._log_model, self._log_after = model, 0
            case _:
                return False
        return True

    async def _read(self) -> None:
        async for message in self._reader:
            await self._pending.put(message)

    async def _pump(self) -> None:
        try:
            while True:
                for frame in await self._round():
                    if not await self._has_room():
                        await self._close(CLOSE_UNREAD)
                        return
                    await self._send_frame(frame)
                await asyncio.sleep(TICK_S)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("a live view failed; its browser reconnects")
            with contextlib.suppress(Exception):
                await self._close(1011)

    async def _round(self) -> list[dict[str, Any]]:
        """Return the frames of this round; waits up to one tick for the first change."""
        messages: list[Message] = []
        with contextlib.suppress(TimeoutError):
            messages.append(await asyncio.wait_for(self._pending.get(), TICK_S))
        while messages and len(messages) < FRAMES_PER_ROUND_MAX:
            # The queue of one keeps the bound in the feed's reader; a turn of the loop refills it.
            await asyncio.sleep(0)
            if self._pending.empty():
                break
            messages.append(self._pending.get_nowait())
        frames = fold(messages, self._seq)
        if frames:
            self._seq = frames[-1]["seq"]
        log = self._log_frame()
        return [*frames, log] if log else frames

    def _log_frame(self) -> dict[str, Any] | None:
        if not self._log_model:
            return None
        first, lines = self._handle.logs.tail(self._log_model, self._log_after, LOG_LINES_MAX)
        if not lines:
            return None
        self._log_after = first + len(lines) - 1
        return {"type": "log", "model": self._log_model, "first": first, "lines": lines}

    async def _has_room(self) -> bool:
        """Wait until the browser has read enough; False when it never does."""
        if not self._acked:
            return self._bytes < SILENT_CLIENT_BYTES_MAX
        while self._sent - self._acked >= UNACKNOWLEDGED_MAX:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), ACK_TIMEOUT_S)
            except TimeoutError:
                return False
        return True

    async def _send_frame(self, frame: dict[str, Any]) -> None:
        self._sent += 1
        self._bytes += await self._send({**frame, "n": self._sent})
