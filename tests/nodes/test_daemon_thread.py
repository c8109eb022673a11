"""Blocking work in a thread that never holds up the end."""

import asyncio
import threading

import pytest

from nodes.runtime.daemon_thread import in_daemon_thread


async def test_result_and_failure_come_back() -> None:
    assert await in_daemon_thread(lambda: 42, "t") == 42
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 // 0, "t")


def test_loop_ends_while_the_work_still_runs() -> None:
    release = threading.Event()

    async def start() -> None:
        task = asyncio.create_task(in_daemon_thread(lambda: release.wait(30), "t"))
        await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(start())
    release.set()
