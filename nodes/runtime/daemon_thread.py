"""Blocking work beside the loop that must not hold up the node's end: a download, a slow disk.

`asyncio.to_thread` waits for its threads when the loop closes; a daemon thread ends with the process.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T], name: str) -> T:
    """Return what `work` returns, or raise what it raises; cancelling does not stop the thread."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def hand_over(settle: Callable[[T], None] | Callable[[Exception], None], value: object) -> None:
        def now() -> None:
            if not done.done():
                settle(value)  # type: ignore[arg-type]

        # A loop that closed meanwhile has nobody left who waits for the outcome.
        if not loop.is_closed():
            loop.call_soon_threadsafe(now)

    def run() -> None:
        try:
            result = work()
        except Exception as error:
            hand_over(done.set_exception, error)
        else:
            hand_over(done.set_result, result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
