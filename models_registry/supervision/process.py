"""One child process: its spawn in an own session, its output, its end. Knows no HTTP and no plan.

Its output pipe is ours and not asyncio's: there the end of a process is only told once every
holder of the pipe is gone, and an aborting engine may leave a debugger behind that holds it.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from models_registry.log_ring import EngineLog
from models_registry.supervision import exec_child
from models_registry.supervision.engine_output import OutputScanner
from models_registry.supervision.roster import Roster

TERM_WAIT_S = 1.0
"""After the first TERM and again after the second; then KILL."""
OUTPUT_DRAIN_S = 1.0
"""How long the last output of an ended process is waited for."""
STOPPED_BOUND_S = 3.0
"""Stopped for longer: frozen. Shorter is what somebody does who looks at a process."""
STOPPED_POLL_S = 0.5
RECENT_LINES = 200
"""Lines of this process kept for the sentence about its end."""
CHUNK_BYTES = 64 * 1024


def spawn_prefix() -> list[str]:
    """Return the start of the command line that ties a child's life to this process (`exec_child`)."""
    # The kernel's signal comes at the end of the thread that spawned: only the main thread will do.
    parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
    return [sys.executable, "-I", "-S", str(Path(exec_child.__file__).resolve()), str(parent)]


class ChildProcess:
    """A running child. Make one with `spawn`."""

    def __init__(self, process: Process, what: str, log: EngineLog, roster: Roster) -> None:
        self._process = process
        self._log = log
        self._roster = roster
        self._scanner = OutputScanner()
        self.what = what
        self.recent: deque[str] = deque(maxlen=RECENT_LINES)
        """The last lines, as they were kept in the log."""
        self.on_progress: Callable[[float], None] = lambda fraction: None
        self.ended: asyncio.Task[int]

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        what: str,
        log: EngineLog,
        roster: Roster,
        stdin: int = DEVNULL,
    ) -> "ChildProcess":
        """Return the started child, entered into the roster; `stdin` is a descriptor, the caller's to close.

        Raises:
            OSError: the system could not start a process (no memory, no process left).
        """
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *spawn_prefix(), *argv,
                stdin=stdin, stdout=write_end, stderr=write_end, env=dict(env), start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        child = cls(process, what, log, roster)
        roster.add(process.pid, what)
        output = asyncio.create_task(child._read(read_end), name=f"output of {what}")
        child.ended = asyncio.create_task(child._wait(output), name=f"end of {what}")
        return child

    @property
    def pid(self) -> int:
        """The process id; also its process group's."""
        return self._process.pid

    @property
    def never_ran(self) -> bool:
        """Whether the wrapper could not start the program at all."""
        return self._process.returncode == exec_child.CANNOT_RUN

    async def _read(self, descriptor: int) -> None:
        reader = asyncio.StreamReader(limit=CHUNK_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                before = self._scanner.fraction
                self.recent.extend(self._log.write(self._scanner.feed(chunk)))
                if self._scanner.fraction is not None and self._scanner.fraction != before:
                    self.on_progress(self._scanner.fraction)
            self.recent.extend(self._log.write(self._scanner.finish()))
        finally:
            transport.close()

    async def _wait(self, output: asyncio.Task[None]) -> int:
        """Return the return code once the process is really gone and its last words are read."""
        try:
            returncode = await self._process.wait()
        finally:
            if self._process.returncode is None:
                self.signal(signal.SIGKILL)  # This task was cancelled: the loop is ending.
            else:
                self._roster.remove(self.pid)
        await asyncio.wait({output}, timeout=OUTPUT_DRAIN_S)
        output.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await output
        return returncode

    def signal(self, number: int) -> None:
        """Signal the child's whole group, if it still runs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def end(self) -> int:
        """Return the return code after TERM, TERM, KILL; the second TERM ends llama-server's streams."""
        for _ in range(2):
            if self.ended.done():
                break
            self.signal(signal.SIGTERM)
            await asyncio.wait({self.ended}, timeout=TERM_WAIT_S)
        return await self.kill()

    async def over(self) -> bool:
        """Return when it has ended; True: it stood still (SIGSTOP) for so long that it was killed.

        Nothing but the machine itself can tell a stopped process from a busy one, and whoever waits for
        its answer would wait for ever.
        """
        clock = asyncio.get_running_loop().time
        stopped_s: float | None = None
        while not (await asyncio.wait({self.ended}, timeout=STOPPED_POLL_S))[0]:
            if not _is_stopped(self.pid):
                stopped_s = None
            elif stopped_s is None:
                stopped_s = clock()
            elif clock() - stopped_s > STOPPED_BOUND_S:
                await self.kill()
                return True
        return False

    async def kill(self) -> int:
        """Return the return code after KILL, or at once when it has ended."""
        self.signal(signal.SIGKILL)
        return await asyncio.shield(self.ended)


def _is_stopped(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False  # Gone, or not to be asked: its end is noticed anyway.
