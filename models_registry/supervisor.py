"""Runs the engines that the mesh core decided on: `StartServer` and `StopServer` become processes.

Reports what happens to them as events, truthfully and once for each run; whether and when to start
again is the core's decision. All calls come from the node's loop, on its main thread.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from models_registry.engine.probe import Engine
from models_registry.log_ring import EngineLogs
from models_registry.supervision.commands import EngineCommands, LaunchCommands
from models_registry.supervision.engine_run import EngineRun
from models_registry.supervision.guard_link import GuardLink
from models_registry.supervision.hang_watch import HangLimits
from models_registry.supervision.roster import Roster
from nodes.mesh.events import Event, ServerExited
from nodes.mesh.ids import RunId
from nodes.mesh.plans import ServerPlan
from nodes.runtime.handle import LogSource

MAX_RUNS = 16
"""Engines at a time; a further start is refused by a `ServerExited`."""
_log = logging.getLogger(__name__)


class Supervisor:
    """The engines of this node. Reap first (`models_registry.children.reap`), then make one."""

    def __init__(
        self,
        engine: Engine | EngineCommands,
        *,
        run_dir: Path,
        log_dir: Path,
        report: Callable[[Event], None],
        limits: HangLimits | None = None,
    ) -> None:
        """`report` is called on the loop and must not block; `limits` None: the defaults."""
        self._commands = LaunchCommands(engine) if isinstance(engine, Engine) else engine
        self._report = report
        self._limits = limits or HangLimits()
        self._guard = GuardLink()
        self._roster = Roster(run_dir, self._guard)
        self._logs = EngineLogs(log_dir)
        self._runs: dict[RunId, EngineRun] = {}
        self._tasks: dict[RunId, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def logs(self) -> LogSource:
        """The last lines of the engines' output, by model."""
        return self._logs

    @property
    def guard_pid(self) -> int | None:
        """The guard's pid; None before the first start and while it is started again."""
        return self._guard.pid

    def pids(self) -> tuple[int, ...]:
        """Return the pids of all engine processes, rpc-servers included; the guard is none."""
        return self._roster.pids()

    async def guarded_roster(self) -> Roster:
        """Return the roster once the guard is there: for a child of the node that is no engine."""
        await self._guard.start()
        return self._roster

    async def start(self, plan: ServerPlan) -> None:
        """Start this run and return; how it goes is reported. Waits only for the node's first guard.

        From this call on the run can be stopped, while the guard is waited for too.
        Raises nothing for engine faults: each becomes a `ServerExited`.
        """
        assert plan.run_id not in self._tasks, f"run {plan.run_id} was started twice"
        refusal = self._refusal(plan)
        if refusal:
            self._report(ServerExited(plan.run_id, None, refusal, asked=self._closed))
            return
        run = EngineRun(
            plan,
            self._commands,
            roster=self._roster,
            log=self._logs.open(plan.name),
            report=self._report,
            limits=self._limits,
        )
        # Entered before anything is waited for: a stop that comes right behind must find it.
        self._runs[plan.run_id] = run
        guarded = asyncio.ensure_future(self._guard.start())
        task = asyncio.create_task(
            _live_guarded(run, guarded), name=f"run {plan.run_id} of {plan.name}"
        )
        self._tasks[plan.run_id] = task
        task.add_done_callback(lambda _: self._forget(plan.run_id))
        await asyncio.wait({guarded})

    def _refusal(self, plan: ServerPlan) -> str | None:
        if self._closed:
            return f"llama-server for {plan.name} was not started: the node is stopping"
        if len(self._runs) >= MAX_RUNS:
            full = f"{MAX_RUNS} engines run already; drop one first"
            return f"llama-server for {plan.name} was not started: {full}"
        return None

    def _forget(self, run_id: RunId) -> None:
        self._runs.pop(run_id, None)
        self._tasks.pop(run_id, None)

    async def stop(self, run_id: RunId, grace_s: float) -> None:
        """Return when this run has really ended; at once when it is not running.

        Open streams get up to `grace_s` (less as soon as no slot is at work), then TERM, TERM, KILL,
        one second apart. Route no new requests to it before.
        """
        run, task = self._runs.get(run_id), self._tasks.get(run_id)
        if run is None or task is None:
            return
        run.ask_to_stop(grace_s)
        await asyncio.shield(task)

    async def close(self, grace_s: float) -> None:
        """Stop all runs at the same time, then the guard. Later starts are refused."""
        self._closed = True
        await asyncio.gather(*(self.stop(run_id, grace_s) for run_id in list(self._runs)))
        await self._guard.close()

    def note_activity(self, model: str) -> None:
        """Tokens of this model's engine flow: it is not frozen. Cheap enough for every chunk."""
        for run in self._runs.values():
            if run.plan.name == model:
                run.note_activity()


async def _live_guarded(run: EngineRun, guarded: "asyncio.Task[None]") -> None:
    """Let the run live once the guard is there: no child is spawned that nobody would end."""
    await asyncio.wait({guarded})
    await run.live()
