"""Feed -> ORM: what the admin shows, written in batches by one writer on one thread of its own.

A sibling of the websocket views: a database that is locked, full, read-only or away delays neither
them nor the node. While it is, the latest state waits (newer replaces older), history and usage wait
within bounds, the loss is said through `on_trouble`, and writing is tried again with growing waits.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections

from nodes.mesh.snapshot import State
from nodes.projection_rows import UsageKey, Written, close_open_launches, write_batch
from nodes.runtime.feed import DeltaMessage, Feed, HistoryMessage, Message, SnapshotMessage

logger = logging.getLogger(__name__)

BATCH_INTERVAL_S = 1.0
"""Changes are gathered for this long before they are written."""

HISTORY_WAITING_MAX = 5_000
"""History entries that wait for the database; the oldest go first."""

USAGE_WAITING_MAX = 5_000
"""(model, hour) sums that wait for the database; the oldest go first."""

RETRY_S = (1.0, 60.0)
"""First and longest wait after the database failed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes."""

    state: State | None
    """The whole map, or None when nothing of it changed."""
    history: tuple[dict[str, Any], ...]
    usage: dict[UsageKey, tuple[int, int, int, int]]
    """(model, hour) -> (requests, prompt tokens, completion tokens, errors) to add."""


class Projection:
    """The one writer. `run` it as a task; `note_usage` from the loop's thread."""

    def __init__(self, feed: Feed, on_trouble: Callable[[str | None], None] = lambda _: None):
        self._feed = feed
        self._on_trouble = on_trouble
        self._state: State | None = None
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_WAITING_MAX)
        self._usage: OrderedDict[UsageKey, tuple[int, int, int, int]] = OrderedDict()
        self._last_entry: dict[str, Any] | None = None
        self._troubled = False
        self._written = Written()
        """Touched by the writing thread alone."""
        self._wake = asyncio.Event()

    def note_usage(
        self, model: str, requests: int, prompt_tokens: int, completion_tokens: int, errors: int
    ) -> None:
        """Add a finished request, or several, to the model's sum of this hour. Costs microseconds."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self._add_usage((model, hour), (requests, prompt_tokens, completion_tokens, errors))
        self._wake.set()

    async def run(self) -> None:
        """Follow the feed until cancelled; what is gathered then is written once more, if it can be."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="projection")
        reader = self._feed.reader()
        following = asyncio.create_task(self._follow(reader))
        try:
            await self._write_for_ever(pool)
        finally:
            reader.close()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            pool.submit(self._last_write, self._take_batch(), self._written)
            pool.shutdown(wait=False)

    async def _follow(self, reader: Any) -> None:
        async for message in reader:
            self._take(message)
            self._wake.set()

    def _take(self, message: Message) -> None:
        match message:
            case SnapshotMessage(_, state, history):
                self._state = state
                self._history.extend(self._unseen(history))
            case DeltaMessage():
                self._state = self._feed.state
            case HistoryMessage(_, entry):
                self._history.append(entry)
                self._last_entry = entry

    def _unseen(self, history: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
        """Return the entries after the last one taken; the feed keeps the very objects it was given."""
        fresh: list[dict[str, Any]] = []
        for entry in reversed(history):
            if entry is self._last_entry:
                break
            fresh.append(entry)
        if history:
            self._last_entry = history[-1]
        return fresh[::-1]

    async def _write_for_ever(self, pool: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        wait_s = RETRY_S[0]
        opened = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(BATCH_INTERVAL_S)
            batch = self._take_batch()
            try:
                if not opened:
                    await loop.run_in_executor(pool, _afresh, close_open_launches)
                    opened = True
                await loop.run_in_executor(pool, _write, batch, self._written)
            except (DatabaseError, OSError) as error:
                self._give_back(batch)
                self._written = Written()  # It may be another database that comes back.
                self._trouble(error)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_S[1])
            except asyncio.CancelledError:
                raise
            except Exception:
                # A row that cannot be written must not stop those after it: the batch is given up.
                logger.exception("a batch of the projection could not be written and is left out")
            else:
                wait_s = RETRY_S[0]
                self._well()

    def _take_batch(self) -> Batch:
        batch = Batch(self._state, tuple(self._history), dict(self._usage))
        self._state = None
        self._history.clear()
        self._usage.clear()
        return batch

    def _give_back(self, batch: Batch) -> None:
        self._state = self._state or batch.state
        newer = list(self._history)
        self._history.clear()
        self._history.extend([*batch.history, *newer])
        newer_usage = dict(self._usage)
        self._usage.clear()
        for sums in (batch.usage, newer_usage):
            for key, numbers in sums.items():
                self._add_usage(key, numbers)
        self._wake.set()

    def _add_usage(self, key: UsageKey, numbers: tuple[int, int, int, int]) -> None:
        before = self._usage.get(key, (0, 0, 0, 0))
        a, b, c, d = (old + new for old, new in zip(before, numbers, strict=True))
        self._usage[key] = (a, b, c, d)
        while len(self._usage) > USAGE_WAITING_MAX:
            self._usage.popitem(last=False)

    def _trouble(self, error: BaseException) -> None:
        text = (
            f"The database cannot be written ({error}). The node serves on; history, usage and the "
            "admin wait until it can. Check the disk's space and rights, and who else holds it."
        )
        if not self._troubled:
            logger.warning("%s", text)
        self._troubled = True
        self._on_trouble(text)

    def _well(self) -> None:
        if self._troubled:
            logger.info("the database can be written again")
            self._on_trouble(None)
        self._troubled = False

    @staticmethod
    def _last_write(batch: Batch, written: Written) -> None:
        try:
            _write(batch, written)
        except (DatabaseError, OSError):
            logger.warning("the last changes before the stop could not be written")
        finally:
            connections.close_all()


def _write(batch: Batch, written: Written) -> None:
    _afresh(lambda: write_batch(batch.state, batch.history, batch.usage, written))


def _afresh(work: Callable[[], None]) -> None:
    """Do `work`; after a fault the next one begins with a connection of its own."""
    try:
        work()
    except DatabaseError:
        # A connection that failed (server gone, file replaced) must not be asked again.
        connections.close_all()
        raise
