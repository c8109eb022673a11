"""A bounded home for tasks that nobody awaits: kept until done, cancelled together."""

import asyncio
from collections.abc import Coroutine


class TaskSet:
    """Running tasks. Whoever spawns bounds their number (here: the streams of all connections)."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        """Run a coroutine that handles its own errors."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        """Return when every task has ended, cancelled."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
