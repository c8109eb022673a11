"""The node's end of the guard (`models_registry.guard`): starts it, tells it the children, restarts it.

The pipe's write end must live in this process alone, or its closing is never seen: it is close-on-exec,
so every further process of the node has to be started by exec (never a bare fork).
"""

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from models_registry import guard

START_S = 10.0
"""How long a guard may take to say that it is there; a loaded machine starts an interpreter slowly."""
CLOSE_S = 2.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
HEALTHY_AFTER_S = 10.0
MAX_RESTARTS = 10
"""Restarts in a row of guards that did not live `HEALTHY_AFTER_S`; then it is said and left."""
_log = logging.getLogger(__name__)


class GuardLink:
    """Keeps one guard running that knows all children."""

    def __init__(self) -> None:
        self._children: dict[int, str] = {}
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._guarding = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The guard's pid, or None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Return when a guard is there; without one after `START_S` that is logged and the node goes on."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="guard-keeper")
        if self._keeper.done():
            return  # Given up, and said.
        try:
            await asyncio.wait_for(self._guarding.wait(), START_S)
        except TimeoutError:
            _log.warning(
                "no guard process: if this node is killed, its engines end at the next start"
            )

    def add(self, pid: int, identity: str) -> None:
        """Have the guard end this child when the node is gone."""
        self._children[pid] = identity
        self._tell(f"+ {pid} {identity}\n")

    def remove(self, pid: int) -> None:
        """The child has ended."""
        if self._children.pop(pid, None) is not None:
            self._tell(f"- {pid}\n")

    def _tell(self, line: str) -> None:
        if self._process and self._process.stdin and not self._process.stdin.is_closing():
            self._process.stdin.write(line.encode("ascii"))

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        failures, pause_s = 0, FIRST_PAUSE_S
        while failures <= MAX_RESTARTS:
            began = loop.time()
            try:
                await self._one_guard()
            except OSError as fault:
                _log.warning("the guard process could not be started: %s", fault)
            if loop.time() - began > HEALTHY_AFTER_S:
                failures, pause_s = 0, FIRST_PAUSE_S
            failures += 1
            _log.warning("the guard process ended; starting it again")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        _log.error(
            "the guard process keeps ending: if this node is killed, its engines end at the next start"
        )

    async def _one_guard(self) -> None:
        """Start a guard, tell it all children, return when it has ended."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(Path(guard.__file__).resolve()),
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._process = process
        assert process.stdout
        for pid, identity in self._children.items():
            self._tell(f"+ {pid} {identity}\n")
        if await process.stdout.readline():
            self._guarding.set()
        await process.wait()
        self._guarding.clear()

    async def close(self) -> None:
        """End the guard: call when no child is left. A child still listed would be ended by it."""
        keeper, self._keeper = self._keeper, None
        if keeper:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        if process.stdin:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), CLOSE_S + guard.TERM_S + guard.KILL_S)
        except TimeoutError:
            process.kill()
            await process.wait()
