"""One run of an rpc-server for another node's split: what a StartWorker effect becomes.

As with engines it decides nothing about restarts and raises nothing: it tells the truth about the end,
once. Its host is let in only when the port is open, and kept out before the process is ended.
"""

import asyncio
import logging
from collections.abc import Callable

from models_registry.log_ring import EngineLog
from models_registry.supervision.commands import EngineCommands
from models_registry.supervision.process import ChildProcess
from models_registry.supervision.roster import Roster
from models_registry.supervision.rpc_server import RpcServer, RunFault
from models_registry.supervision.split_lane import SplitFault, SplitLane
from nodes.mesh.events import Event, WorkerExited, WorkerReady
from nodes.mesh.plans import WorkerPlan
from nodes.runtime.daemon_thread import in_daemon_thread

_log = logging.getLogger(__name__)


class WorkerRun:
    """One rpc-server that only the plan's host can reach."""

    def __init__(
        self,
        plan: WorkerPlan,
        commands: EngineCommands,
        *,
        roster: Roster,
        log: EngineLog,
        report: Callable[[Event], None],
        lane: SplitLane,
    ) -> None:
        self.plan = plan
        self._commands = commands
        self._roster = roster
        self._log = log
        self._report = report
        self._lane = lane
        self._child: ChildProcess | None = None
        self._port: int | None = None
        self._stop = asyncio.Event()
        self._what = f"rpc-server for {plan.model}"

    def ask_to_stop(self) -> None:
        """End it now: no person's stream is in it."""
        self._stop.set()

    async def live(self) -> None:
        """Run until the end, and report it."""
        try:
            reason = await self._run()
        except RunFault as fault:
            reason = str(fault)
        except Exception as fault:
            # The last line of defence: an unreported end would leave the mesh waiting for ever.
            _log.exception("the %s failed by an error of ours", self._what)
            reason = f"{self._what} could not be run: {fault!r}"
        finally:
            if self._port is not None:
                self._lane.withdraw(self._port)
            if self._child is not None:
                await self._child.end()
                await self._tidy()
            self._log.close()
        self._report(WorkerExited(self.plan.run_id, reason, asked=self._stop.is_set()))

    async def _tidy(self) -> None:
        """Hold the tensors' cache within bounds. What goes wrong there does not keep the end untold."""
        try:
            await in_daemon_thread(self._commands.tidy, "tidy the tensors' cache")
        except Exception:
            _log.exception("the cache of the %s could not be tidied", self._what)

    async def _run(self) -> str:
        """Return why it ended. Raises: RunFault."""
        stopped = f"{self._what} was stopped"
        if self._stop.is_set():
            return f"{stopped} before it started"
        server = await RpcServer.start(
            self._what, self._commands, self._log, self._roster, self._spawned, self._stop
        )
        stop = asyncio.create_task(self._stop.wait())
        admission = asyncio.create_task(self._admit(server))
        ends: set[asyncio.Task[object]] = {server.over, stop}
        try:
            first: set[asyncio.Task[object]] = {*ends, admission}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if admission.done():
                admission.result()
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return server.over.result().reason if server.over.done() else stopped
        finally:
            for task in (admission, stop, server.over):
                task.cancel()
            await asyncio.gather(admission, stop, server.over, return_exceptions=True)

    def _spawned(self, child: ChildProcess) -> None:
        self._child = child

    async def _admit(self, server: RpcServer) -> None:
        """Let the host in, and report it. Raises: RunFault."""
        if server.over.done() or self._stop.is_set():
            return
        self._port = server.port
        try:
            await self._lane.admit(self.plan, server.port)
        except SplitFault as fault:
            raise RunFault(f"{self._what} cannot be reached by its host: {fault}") from fault
        self._report(WorkerReady(self.plan.run_id, server.port, server.child.pid))
