"""One run of one engine, from its spawn to its end: what a StartServer effect becomes.

Decides nothing about restarts: it tells the truth about the end, once, and is then over. Every
engine fault becomes that one `ServerExited`; nothing is raised.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

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
from models_registry.supervision.rpc_server import LOOPBACK, RpcServer, RunFault, free_port, spawn
from models_registry.supervision.split_lane import SplitFault, SplitLane
from nodes.mesh.events import Event, ServerDrafted, ServerExited, ServerProgressed, ServerReady
from nodes.mesh.plans import ServerPlan

PORT_ATTEMPTS = 3
"""Starts of one run when another process takes the chosen port first."""
LOST_NOTICE_S = 0.5
"""A split's engine aborts in the moment in which the lane tells whose connection is gone."""
ABORTED = -6
DRAIN_POLL_S = 0.1
DRAIN_QUIET_S = 2.0
"""Where the engine does not tell its slots: no token for this long means that no stream is open."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ending:
    returncode: int | None
    reason: str
    port_busy: bool = False


class EngineRun:
    """One llama-server, with its own rpc-server and the ways to its workers where the plan says so."""

    def __init__(
        self,
        plan: ServerPlan,
        commands: EngineCommands,
        *,
        roster: Roster,
        log: EngineLog,
        report: Callable[[Event], None],
        limits: HangLimits,
        lane: SplitLane,
    ) -> None:
        self.plan = plan
        self._commands = commands
        self._roster = roster
        self._log = log
        self._report = report
        self._limits = limits
        self._lane = lane
        self._children: list[ChildProcess] = []
        self._watch: HangWatch | None = None
        self._port = 0
        self._tunnels: tuple[int, ...] = ()
        self._lost = ""
        """Whose connection is gone; empty: nobody's."""
        self._ends = asyncio.Event()
        """Set when the run is to end: a stop was asked, or a tunnel was lost."""
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
        self._ends.set()

    def tunnel_lost(self, port: int, worker: str) -> None:
        """A way to a worker is gone, perhaps one of this run's: then its engine is of no use any more."""
        if port in self._tunnels and not self._lost:
            self._lost = worker
            self._ends.set()

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
            except RunFault as fault:
                return _Ending(None, str(fault))
            finally:
                self._close_tunnels()
            if not ending.port_busy:
                break
            await self._end_children()
        return ending

    async def _attempt(self) -> _Ending:
        rpc = await self._own_rpc_server() if self.plan.rpc_self else None
        try:
            if rpc and rpc.over.done():
                return _ending_of(rpc)
            await self._open_tunnels()
            if self._stop.is_set():
                raise RunFault(f"llama-server for {self.plan.name} was stopped before it started")
            return await self._serve(rpc)
        finally:
            if rpc:
                rpc.over.cancel()
                await asyncio.gather(rpc.over, return_exceptions=True)

    async def _serve(self, rpc: RpcServer | None) -> _Ending:
        server = await self._start_server(rpc)
        attendance = asyncio.create_task(self._attend(server), name=f"attend {server.what}")
        told = asyncio.create_task(self._ends.wait())
        ends = {server.ended, attendance, told, *((rpc.over,) if rpc else ())}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return await self._ending(server, rpc, attendance)
        finally:
            for task in (attendance, told):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Frozen, NotReady):
                    await task
            self._watch = None

    async def _start_server(self, rpc: RpcServer | None) -> ChildProcess:
        """Return the spawned llama-server. Raises: RunFault."""
        self._port = free_port()
        ports = [*self._tunnels, *([rpc.port] if rpc else [])]
        endpoints = [f"{LOOPBACK}:{port}" for port in ports]
        try:
            argv = self._commands.server_argv(self.plan, port=self._port, rpc=endpoints)
        except Unsupported as fault:
            raise RunFault(str(fault)) from fault
        what = f"llama-server for {self.plan.name}"
        server = await spawn(argv, what, self._commands, self._log, self._roster)
        self._children.append(server)
        self._lane.name_client(self._tunnels, server.pid)
        server.on_progress = lambda fraction: self._progress("loading", fraction)
        return server

    async def _ending(
        self, server: ChildProcess, rpc: RpcServer | None, attendance: "asyncio.Task[None]"
    ) -> _Ending:
        """Return how the run ends, now that something of it has ended or is to end."""
        if server.ended.done():
            return await self._server_died(server)
        if self._lost:
            return self._split_lost(server, await server.kill())
        if rpc and rpc.over.done():
            await server.kill()  # It would abort at its next request, and hang until then.
            return _ending_of(rpc)
        if attendance.done() and not self._stop.is_set():
            fault = attendance.exception()
            assert isinstance(fault, Frozen | NotReady), fault
            returncode = await server.kill()
            return _Ending(returncode, f"{server.what} {fault}, so it was killed")
        await self._drain(server)
        if server.ended.done():
            return await self._server_died(server)
        return _Ending(await server.end(), f"{server.what} was stopped")

    async def _server_died(self, server: ChildProcess) -> _Ending:
        returncode, lines = server.ended.result(), list(server.recent)
        if returncode == ABORTED and self._tunnels and not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ends.wait(), LOST_NOTICE_S)
        if self._lost:
            return self._split_lost(server, returncode)
        reason = exit_reason(server.what, returncode, lines)
        if server.never_ran:
            return _Ending(None, reason)
        return _Ending(returncode, reason, port_busy=returncode > 0 and port_was_busy(lines))

    def _split_lost(self, server: ChildProcess, returncode: int) -> _Ending:
        reason = f"{server.what} lost its split: the connection to {self._lost} is gone"
        return _Ending(returncode, reason)

    async def _own_rpc_server(self) -> RpcServer:
        """Return this node's rpc-server once its port is open, or it has ended, or a stop was asked."""
        what = f"rpc-server for {self.plan.name}"
        return await RpcServer.start(
            what, self._commands, self._log, self._roster, self._children.append, self._stop
        )

    # --- the ways to the workers ------------------------------------------------------------------

    async def _open_tunnels(self) -> None:
        """Open the ways to the workers, unless a stop is asked meanwhile. Raises: RunFault."""
        if self.plan.split is None or self._stop.is_set():
            return
        try:
            self._tunnels = await self._unless_stopped(self._lane.open(self.plan)) or ()
        except SplitFault as fault:
            raise RunFault(f"llama-server for {self.plan.name} was not started: {fault}") from fault

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result, or None when a stop was asked first: then the work is given up."""
        working, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stop.cancel()
            await asyncio.gather(working, stop, return_exceptions=True)

    def _close_tunnels(self) -> None:
        """Close them, once nothing runs that uses them."""
        if self._tunnels:
            ports, self._tunnels = self._tunnels, ()
            self._lane.close_ports(ports)

    async def _attend(self, server: ChildProcess) -> None:
        """Wait for readiness, report it, then watch. Raises: NotReady, Frozen."""
        clock = asyncio.get_running_loop().time
        began_s = clock()
        shape = await wait_until_ready(self._port, self.plan.model, self._progress)
        self._watch = HangWatch(
            self._port,
            self.plan.model,
            limits=self._watch_limits(),
            cpu_seconds=self._cpu_seconds,
            parts_elsewhere=self.plan.rpc_self or self.plan.split is not None,
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

    def _watch_limits(self) -> HangLimits:
        if self.plan.split is None:
            return self._limits
        return replace(self._limits, silent_bound_s=self._limits.split_silent_bound_s)

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


def _ending_of(rpc: RpcServer) -> _Ending:
    end = rpc.over.result()
    return _Ending(end.returncode, end.reason)
