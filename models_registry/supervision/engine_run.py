"""One run of one engine, from its spawn to its end: what a StartServer effect becomes.

Decides nothing about restarts: it tells the truth about the end, once, and is then over. Every
engine fault becomes that one `ServerExited`; nothing is raised.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from models_registry.launch import Unsupported
from models_registry.log_ring import EngineLog
from models_registry.readiness import NotReady, wait_until_ready
from models_registry.supervision.commands import EngineCommands
from models_registry.supervision.draft_meter import DraftMeter
from models_registry.supervision.engine_http import NoAnswer
from models_registry.supervision.exit_reasons import exit_reason, port_was_busy
from models_registry.supervision.hang_watch import Frozen, HangLimits, HangWatch, slot_use
from models_registry.supervision.process import ChildProcess
from models_registry.supervision.roster import Roster
from nodes.mesh.events import Event, ServerDrafted, ServerExited, ServerProgressed, ServerReady
from nodes.mesh.plans import ServerPlan

PORT_ATTEMPTS = 3
"""Starts of one run when another process takes the chosen port first."""
RPC_START_S = 15.0
DRAIN_POLL_S = 0.1
DRAIN_QUIET_S = 2.0
"""Where the engine does not tell its slots: no token for this long means that no stream is open."""
LOOPBACK = "127.0.0.1"
_log = logging.getLogger(__name__)


class _Fault(Exception):
    """The run cannot go on; the text is the sentence for `ServerExited`."""


@dataclass(frozen=True, slots=True)
class _Ending:
    returncode: int | None
    reason: str
    port_busy: bool = False


def free_port() -> int:
    """Return a loopback port that nobody listened on a moment ago."""
    with socket.socket() as chosen:
        chosen.bind((LOOPBACK, 0))
        port: int = chosen.getsockname()[1]
        return port


class EngineRun:
    """One llama-server, with its own rpc-server where the plan says so."""

    def __init__(
        self,
        plan: ServerPlan,
        commands: EngineCommands,
        *,
        roster: Roster,
        log: EngineLog,
        report: Callable[[Event], None],
        limits: HangLimits,
    ) -> None:
        self.plan = plan
        self._commands = commands
        self._roster = roster
        self._log = log
        self._report = report
        self._limits = limits
        self._children: list[ChildProcess] = []
        self._watch: HangWatch | None = None
        self._port = self._rpc_port = 0
        self._stop = asyncio.Event()
        self._stop_by_s = 0.0

    def note_activity(self) -> None:
        """Tokens of this engine flow."""
        if self._watch:
            self._watch.note_activity()

    def ask_to_stop(self, grace_s: float) -> None:
        """Let streams go on for at most `grace_s`, then end. A shorter grace asked later wins."""
        by_s = asyncio.get_running_loop().time() + grace_s
        self._stop_by_s = min(self._stop_by_s, by_s) if self._stop.is_set() else by_s
        self._stop.set()

    async def live(self) -> None:
        """Run until the end, and report it."""
        try:
            ending = await self._attempts()
        except Exception as fault:
            # The last line of defence: an unreported end would leave the mesh waiting for ever.
            _log.exception("the run of %s failed by an error of ours", self.plan.name)
            ending = _Ending(None, f"llama-server for {self.plan.name} could not be run: {fault!r}")
        finally:
            await self._end_children()
            self._log.close()
        self._report(
            ServerExited(
                self.plan.run_id, ending.returncode, ending.reason, asked=self._stop.is_set()
            )
        )

    async def _attempts(self) -> _Ending:
        ending = _Ending(None, f"llama-server for {self.plan.name} was stopped before it started")
        for _ in range(PORT_ATTEMPTS):
            if self._stop.is_set():
                break
            self._progress("starting")
            try:
                ending = await self._attempt()
            except _Fault as fault:
                return _Ending(None, str(fault))
            if not ending.port_busy:
                break
            await self._end_children()
        return ending

    async def _attempt(self) -> _Ending:
        rpc = await self._own_rpc_server() if self.plan.rpc_self else None
        if rpc and rpc.ended.done():
            return self._rpc_died(rpc)
        if self._stop.is_set():
            raise _Fault(f"llama-server for {self.plan.name} was stopped before it started")
        self._port = free_port()
        endpoints = (f"{LOOPBACK}:{self._rpc_port}",) if rpc else ()
        try:
            argv = self._commands.server_argv(self.plan, port=self._port, rpc=endpoints)
        except Unsupported as fault:
            raise _Fault(str(fault)) from fault
        server = await self._spawn(argv, f"llama-server for {self.plan.name}")
        server.on_progress = lambda fraction: self._progress("loading", fraction)
        attendance = asyncio.create_task(self._attend(server), name=f"attend {server.what}")
        stop = asyncio.create_task(self._stop.wait())
        ends = {server.ended, attendance, stop, *((rpc.ended,) if rpc else ())}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return await self._ending(server, rpc, attendance)
        finally:
            for task in (attendance, stop):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Frozen, NotReady):
                    await task
            self._watch = None

    async def _ending(
        self, server: ChildProcess, rpc: ChildProcess | None, attendance: "asyncio.Task[None]"
    ) -> _Ending:
        """Return how the run ends, now that something of it has ended or a stop was asked."""
        if server.ended.done():
            return self._server_died(server)
        if rpc and rpc.ended.done():
            await server.kill()  # It would abort at its next request, and hang until then.
            return self._rpc_died(rpc)
        if attendance.done() and not self._stop.is_set():
            fault = attendance.exception()
            assert isinstance(fault, Frozen | NotReady), fault
            returncode = await server.kill()
            return _Ending(returncode, f"{server.what} {fault}, so it was killed")
        await self._drain(server)
        if server.ended.done():
            return self._server_died(server)
        return _Ending(await server.end(), f"{server.what} was stopped")

    def _server_died(self, server: ChildProcess) -> _Ending:
        returncode, lines = server.ended.result(), list(server.recent)
        reason = exit_reason(server.what, returncode, lines)
        if server.never_ran:
            return _Ending(None, reason)
        return _Ending(returncode, reason, port_busy=returncode > 0 and port_was_busy(lines))

    def _rpc_died(self, rpc: ChildProcess) -> _Ending:
        returncode = rpc.ended.result()
        reason = exit_reason(rpc.what, returncode, list(rpc.recent))
        return _Ending(None if rpc.never_ran else returncode, reason)

    async def _spawn(self, argv: list[str], what: str) -> ChildProcess:
        try:
            child = await ChildProcess.spawn(
                argv, env=self._commands.env(), what=what, log=self._log, roster=self._roster
            )
        except OSError as fault:
            raise _Fault(f"{what} could not be started: {fault.strerror or fault}") from fault
        self._children.append(child)
        return child

    async def _own_rpc_server(self) -> ChildProcess:
        """Return this node's rpc-server once its port is open, or it has ended, or a stop was asked."""
        self._rpc_port = free_port()
        try:
            argv = self._commands.rpc_argv(port=self._rpc_port)
        except Unsupported as fault:
            raise _Fault(str(fault)) from fault
        rpc = await self._spawn(argv, f"rpc-server for {self.plan.name}")
        loop = asyncio.get_running_loop()
        by_s = loop.time() + RPC_START_S
        while not rpc.ended.done() and not self._stop.is_set():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(LOOPBACK, self._rpc_port)
                writer.close()
                return rpc
            if loop.time() > by_s:
                raise _Fault(f"{rpc.what} did not open its port within {RPC_START_S:.0f} s")
            await asyncio.sleep(0.02)
        return rpc

    async def _attend(self, server: ChildProcess) -> None:
        """Wait for readiness, report it, then watch. Raises: NotReady, Frozen."""
        clock = asyncio.get_running_loop().time
        began_s = clock()
        shape = await wait_until_ready(self._port, self.plan.model, self._progress)
        self._watch = HangWatch(
            self._port,
            self.plan.model,
            limits=self._limits,
            cpu_seconds=self._cpu_seconds,
            parts_elsewhere=self.plan.rpc_self,
        )
        if self._stop.is_set() or server.ended.done():
            return
        self._report(
            ServerReady(
                self.plan.run_id,
                host=LOOPBACK,
                port=self._port,
                pid=server.pid,
                slots=shape.slots,
                context=shape.context,
                load_s=clock() - began_s,
            )
        )
        meter = self._draft_meter(self._watch)
        try:
            await self._watch.run()
        finally:
            if meter is not None:
                meter.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await meter

    def _draft_meter(self, watch: HangWatch) -> "asyncio.Task[None] | None":
        """Start to read how well the draft guesses; None: there is no draft."""
        if self.plan.draft is None:
            return None
        run_id = self.plan.run_id
        meter = DraftMeter(
            self._port,
            lambda: watch.quiet_s,
            lambda guessed, accepted: self._report(ServerDrafted(run_id, guessed, accepted)),
        )
        return asyncio.create_task(meter.run(), name=f"draft meter of {self.plan.name}")

    async def _drain(self, server: ChildProcess) -> None:
        """Return when no stream is open any more, the grace is over, or the engine has ended."""
        loop = asyncio.get_running_loop()
        idle_seen = False
        # A loading engine has no streams.
        while self._watch and not server.ended.done():
            left_s = self._stop_by_s - loop.time()
            if left_s <= 0:
                return
            idle = await self._is_idle(min(left_s, DRAIN_QUIET_S))
            if idle and idle_seen:
                return  # Twice: a request may wait between two slots.
            idle_seen = idle
            await asyncio.wait({server.ended}, timeout=min(DRAIN_POLL_S, left_s))

    async def _is_idle(self, deadline_s: float) -> bool:
        assert self._watch
        try:
            use = await slot_use(self._port, deadline_s=deadline_s)
        except NoAnswer:
            return False
        return self._watch.quiet_s > DRAIN_QUIET_S if use.busy is None else use.busy == 0

    def _cpu_seconds(self) -> float:
        """Return the processor time that this run's processes have used, seconds."""
        total = 0.0
        for child in self._children:
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(child.pid).cpu_times()
                total += times.user + times.system
        return total

    def _progress(self, phase: str, fraction: float | None = None) -> None:
        self._report(ServerProgressed(self.plan.run_id, phase, fraction))

    async def _end_children(self) -> None:
        """End what still runs of this attempt; nothing does after a normal end."""
        for child in reversed(self._children):
            await child.end()
        self._children.clear()
