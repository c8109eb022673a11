"""Numbered fan-out of what viewers see: one publisher, many readers that may be slow.

Every change raises `seq` by one. A reader gets a snapshot, then deltas. A reader that falls behind
its bound, or that asks, gets a fresh snapshot instead of what it missed; the publisher never waits.
History entries and log lines ride along as appended messages with the same bound.

Runs on the node's loop only; nothing here blocks.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from nodes.mesh.snapshot import State, apply_delta

HISTORY_MAX = 500
"""History entries kept in memory for new viewers; older ones are in the database."""

READER_PENDING_MAX = 256
"""Messages waiting for one reader; at the bound they are thrown away and a snapshot takes their place."""


@dataclass(frozen=True, slots=True)
class SnapshotMessage:
    """Everything, as of `seq`."""

    seq: int
    state: State
    history: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class DeltaMessage:
    """One change: apply to the state of `seq - 1`."""

    seq: int
    put: State
    drop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """One line of history: ``{at, kind, level, text, model, node}``, `at` in Unix seconds."""

    seq: int
    entry: dict[str, Any]


Message = SnapshotMessage | DeltaMessage | HistoryMessage


@dataclass(eq=False)
class Reader:
    """One viewer's end. Iterate over it; leave it by `close`."""

    _feed: "Feed"
    _pending: deque[Message] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _gap: bool = True
    _closed: bool = False

    def offer(self, message: Message) -> None:
        """Take a message, or note a gap when too many wait. Never blocks."""
        if self._gap:
            return
        if len(self._pending) >= READER_PENDING_MAX:
            self.resync()
            return
        self._pending.append(message)
        self._wake.set()

    def resync(self) -> None:
        """Forget what waits; the next message is a fresh snapshot."""
        self._pending.clear()
        self._gap = True
        self._wake.set()

    def close(self) -> None:
        """End the iteration and leave the feed. May be called twice."""
        self._closed = True
        self._feed.forget(self)
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        while not self._closed:
            if self._gap:
                self._gap = False
                return self._feed.snapshot()
            if self._pending:
                return self._pending.popleft()
            self._wake.clear()
            await self._wake.wait()
        raise StopAsyncIteration


class Feed:
    """The state that viewers see, its number, and the readers of it."""

    def __init__(self) -> None:
        self._seq = 0
        self._state: State = {}
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_MAX)
        self._readers: set[Reader] = set()

    @property
    def seq(self) -> int:
        """The number of the last change."""
        return self._seq

    @property
    def state(self) -> State:
        """The map as it is now. Read it, do not change it."""
        return self._state

    def snapshot(self) -> SnapshotMessage:
        """Return everything as of now."""
        return SnapshotMessage(self._seq, self._state, tuple(self._history))

    def publish(self, put: State, drop: tuple[str, ...] = ()) -> None:
        """Change the map and tell every reader. A change of nothing is not numbered."""
        if not put and not drop:
            return
        self._seq += 1
        self._state = apply_delta(self._state, put, drop)
        self._tell(DeltaMessage(self._seq, put, drop))

    def record(self, entry: dict[str, Any]) -> None:
        """Append one history entry and tell every reader."""
        self._seq += 1
        self._history.append(entry)
        self._tell(HistoryMessage(self._seq, entry))

    def reader(self) -> Reader:
        """Return a new reader; its first message is a snapshot."""
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    def forget(self, reader: Reader) -> None:
        """Drop a reader. Unknown ones are no error: closing twice is allowed."""
        self._readers.discard(reader)

    def _tell(self, message: Message) -> None:
        for reader in tuple(self._readers):
            reader.offer(message)
