"""The node's engine processes: found, started, drained, stopped; and the lane that a split needs.

Carries out what the core asks of engines (`nodes.runtime.driver.Actions`) and answers with events. Until
an engine is found there is no supervisor, and the core starts nothing.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from meshsite.background import EngineInUse
from meshsite.draining import drain
from meshsite.lane_side import LaneSide
from meshsite.options import Options
from models_registry.supervisor import Supervisor
from nodes.mesh.events import EngineFound, ServerLoadSampled
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.plans import ServerPlan, WorkerPlan
from nodes.mesh.resources import Device
from nodes.runtime.driver import Driver
from nodes.runtime.home import Home
from proxy.asgi import ApiApp

ENGINE_STOP_GRACE_S = 2.0
"""What an engine gets to end by itself once its streams are over."""

Spawn = Callable[[Coroutine[Any, Any, Any]], object]
"""Runs a task that the node ends and whose failure it logs."""


class Engines:
    """The engines of one node. A `nodes.runtime.handle.LogSource`."""

    def __init__(
        self,
        options: Options,
        home: Home,
        driver: Driver,
        api: ApiApp,
        lane: LaneSide | None,
        spawn: Spawn,
    ) -> None:
        """`lane` None: a node that takes part in no split, such as a client."""
        self._options = options
        self._home = home
        self._driver = driver
        self._api = api
        self.lane = lane
        self._spawn = spawn
        self._supervisor: Supervisor | None = None
        self.devices: tuple[Device, ...] = ()
        """What the engine listed at the start."""
        self._tokens_seen: dict[ModelName, int] = {}
        """As many entries as the load meter has models (`proxy.load.MODELS_MAX`)."""

    def found(self, found: EngineInUse) -> None:
        """Run this engine from now on."""
        self.devices = found.devices
        chosen = self._options.device
        names = [device.name for device in found.devices]
        self._supervisor = Supervisor(
            found.engine,
            run_dir=self._home.run,
            log_dir=self._home.logs,
            report=self._driver.post,
            lane=self.lane,
            devices=chosen.split(",") if chosen else names,
        )
        if self.lane is not None:
            self.lane.supervisor = self._supervisor
        self._driver.post(EngineFound(found.engine.facts))

    # --- what the core asks for -------------------------------------------------------------------

    def start_server(self, plan: ServerPlan) -> None:
        """Start an engine; the supervisor answers with events."""
        self._spawn(self._there().start(plan))

    def stop_server(self, run_id: RunId, grace_s: float) -> None:
        """Let the model's open answers finish for `grace_s`, then end its engine."""
        self._spawn(self._drain_and_stop(run_id, grace_s))

    def start_worker(self, plan: WorkerPlan) -> None:
        """Start an rpc-server for another node's split; the supervisor answers with events."""
        self._spawn(self._there().start_worker(plan))

    def stop_worker(self, run_id: RunId) -> None:
        """End it: nobody's stream is in it."""
        self._spawn(self._there().stop_worker(run_id))

    def _there(self) -> Supervisor:
        assert self._supervisor is not None, "the core starts nothing before EngineFound"
        return self._supervisor

    async def _drain_and_stop(self, run_id: RunId, grace_s: float) -> None:
        found = self._driver.node.serving.run_of(run_id)
        if found is not None and grace_s > 0:
            await drain(self._api, grace_s, found[0])
        await self._there().stop(run_id, ENGINE_STOP_GRACE_S)

    # --- what is known of them --------------------------------------------------------------------

    def load_changed(self, sample: ServerLoadSampled) -> None:
        """Tokens that flow prove the engine alive: the hang watch need not ask it.

        Requests that only arrive prove nothing: they arrive at a frozen engine too.
        """
        before = self._tokens_seen.get(sample.model, 0)
        if self._supervisor is not None and sample.tokens > before:
            self._supervisor.note_activity(sample.model)
        self._tokens_seen[sample.model] = sample.tokens

    def pids(self) -> tuple[int, ...]:
        """Return the engine processes' pids."""
        return self._supervisor.pids() if self._supervisor else ()

    def tail(self, model: str, after: int, limit: int) -> tuple[int, list[str]]:
        """Return the engine's newest lines; none before an engine was found."""
        return self._supervisor.logs.tail(model, after, limit) if self._supervisor else (1, [])

    def models(self) -> list[str]:
        """Return the models whose engines have said something."""
        return self._supervisor.logs.models() if self._supervisor else []

    async def close(self) -> None:
        """End the lane, then every engine."""
        if self.lane is not None:
            await self.lane.close()
        if self._supervisor is not None:
            await self._supervisor.close(ENGINE_STOP_GRACE_S)
