"""Runs the engines that the mesh core decided on: `StartServer` and `StopServer` become processes.

Reports what happens to them as events, truthfully and once for each run; whether and when to start
again is the core's decision. All calls come from the node's loop, on its main thread.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from models_registry.engine.probe import Engine
from models_registry.log_ring import EngineLogs
from models_registry.supervision.commands import EngineCommands, LaunchCommands
from models_registry.supervision.engine_run import EngineRun
from models_registry.supervision.guard_link import GuardLink
from models_registry.supervision.hang_watch import HangLimits
from models_registry.supervision.roster import Roster
from models_registry.supervision.split_lane import NoLane, SplitLane
from models_registry.supervision.worker_run import WorkerRun
from nodes.mesh.events import Event, ServerExited, WorkerExited
from nodes.mesh.ids import RunId
from nodes.mesh.plans import ServerPlan, WorkerPlan
from nodes.runtime.handle import LogSource

MAX_RUNS = 16
"""Engines and workers at a time; a further start is refused by a `ServerExited` or `WorkerExited`."""
_log = logging.getLogger(__name__)


class Supervisor:
    """The engines of this node, and its rpc-servers for others.

    Reap first (`models_registry.children.reap`), then make one.
    """

    def __init__(
        self,
        engine: Engine | EngineCommands,
        *,
        run_dir: Path,
        log_dir: Path,
        report: Callable[[Event], None],
        limits: HangLimits | None = None,
        lane: SplitLane | None = None,
        devices: Sequence[str] = (),
    ) -> None:
        """`report` is called on the loop and must not block; `limits` None: the defaults.

        `lane` carries splits; None: there are none. `devices` are what the engine may use of this
        machine; none: its processor.
        """
        self._commands = (
            LaunchCommands(engine, devices, run_dir) if isinstance(engine, Engine) else engine
        )
        self._lane = lane or NoLane()
        self._report = report
        self._limits = limits or HangLimits()
        self._guard = GuardLink()
        self._roster = Roster(run_dir, self._guard)
        self._logs = EngineLogs(log_dir)
        self._runs: dict[RunId, EngineRun] = {}
        self._tasks: dict[RunId, asyncio.Task[None]] = {}
        self._workers: dict[RunId, tuple[WorkerRun, asyncio.Task[None]]] = {}
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
        refusal = self._refusal()
        if refusal:
            reason = f"llama-server for {plan.name} was not started: {refusal}"
            self._report(ServerExited(plan.run_id, None, reason, asked=self._closed))
            return
        run = EngineRun(
            plan,
            self._commands,
            roster=self._roster,
            log=self._logs.open(plan.name),
            report=self._report,
            limits=self._limits,
            lane=self._lane,
        )
        # Entered before anything is waited for: a stop that comes right behind must find it.
        self._runs[plan.run_id] = run
        guarded = asyncio.ensure_future(self._guard.start())
        task = asyncio.create_task(
            _live_guarded(run.live, guarded), name=f"run {plan.run_id} of {plan.name}"
        )
        self._tasks[plan.run_id] = task
        task.add_done_callback(lambda _: self._forget(plan.run_id))
        await asyncio.wait({guarded})

    async def start_worker(self, plan: WorkerPlan) -> None:
        """Start this rpc-server for another node's split and return; how it goes is reported.

        Raises nothing for its faults: each becomes the one `WorkerExited`.
        """
        assert plan.run_id not in self._workers, f"worker {plan.run_id} was started twice"
        refusal = self._refusal()
        if refusal:
            reason = f"rpc-server for {plan.model} was not started: {refusal}"
            self._report(WorkerExited(plan.run_id, reason, asked=self._closed))
            return
        run = WorkerRun(
            plan,
            self._commands,
            roster=self._roster,
            log=self._logs.open(plan.model),
            report=self._report,
            lane=self._lane,
        )
        guarded = asyncio.ensure_future(self._guard.start())
        task = asyncio.create_task(
            _live_guarded(run.live, guarded), name=f"worker {plan.run_id} of {plan.model}"
        )
        self._workers[plan.run_id] = (run, task)
        task.add_done_callback(lambda _: self._workers.pop(plan.run_id, None))
        await asyncio.wait({guarded})

    def _refusal(self) -> str | None:
        if self._closed:
            return "the node is stopping"
        if len(self._runs) + len(self._workers) >= MAX_RUNS:
            return f"{MAX_RUNS} engines run already; drop one first"
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

    async def stop_worker(self, run_id: RunId) -> None:
        """Return when this rpc-server has really ended; at once when it is not running.

        Nobody reaches it from this call on; then TERM, TERM, KILL. No person's stream is in it.
        """
        found = self._workers.get(run_id)
        if found is not None:
            found[0].ask_to_stop()
            await asyncio.shield(found[1])

    def tunnel_lost(self, port: int, worker: str) -> None:
        """The local port no longer leads to its worker: the engine that used it ends now, and says so.

        An idle one would notice nothing until its next request. `worker` is a name for people.
        """
        for run in self._runs.values():
            run.tunnel_lost(port, worker)

    async def close(self, grace_s: float) -> None:
        """Stop all runs at the same time, then the guard. Later starts are refused."""
        self._closed = True
        await asyncio.gather(
            *(self.stop(run_id, grace_s) for run_id in list(self._runs)),
            *(self.stop_worker(run_id) for run_id in list(self._workers)),
        )
        await self._guard.close()

    def note_activity(self, model: str) -> None:
        """Tokens of this model's engine flow: it is not frozen. Cheap enough for every chunk."""
        for run in self._runs.values():
            if run.plan.name == model:
                run.note_activity()


async def _live_guarded(
    live: Callable[[], Coroutine[Any, Any, None]], guarded: "asyncio.Task[None]"
) -> None:
    """Let the run live once the guard is there: no child is spawned that nobody would end."""
    await asyncio.wait({guarded})
    await live()
