"""The driver: events in order, effects carried out, deadlines kept."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from nodes.mesh.events import EngineFound, ModelWanted, ResourcesSampled
from nodes.mesh.node import MeshNode
from nodes.mesh.placement import ServingOptions
from nodes.mesh.plans import ServerPlan
from nodes.mesh.routing import RoutingTable
from nodes.runtime import driver as driver_module
from nodes.runtime.driver import Driver
from nodes.runtime.feed import Feed
from tests.fakes.node_actions import NoActions
from tests.nodes.mesh.facts import ENGINE, MACHINE, ME, exited, model, ready


class Recorder(NoActions):
    """Actions that only note what they were asked."""

    def __init__(self) -> None:
        self.started: list[ServerPlan] = []
        self.stopped: list[tuple[int, float]] = []
        self.tables: list[RoutingTable] = []
        self.left: list[int] = []

    def start_server(self, plan: ServerPlan) -> None:
        self.started.append(plan)

    def stop_server(self, run_id: int, grace_s: float) -> None:
        self.stopped.append((run_id, grace_s))

    def change_routes(self, table: RoutingTable) -> None:
        self.tables.append(table)

    def leave_and_exit(self, exit_code: int, reason: str) -> None:
        self.left.append(exit_code)


@pytest.fixture
async def driver() -> AsyncIterator[tuple[Driver, Recorder]]:
    actions = Recorder()
    made = Driver(MeshNode(ME, ServingOptions()), Feed(), actions)
    task = asyncio.create_task(made.run())
    for event in (EngineFound(ENGINE), ResourcesSampled(MACHINE), ModelWanted(model())):
        made.post(event)
    await made.settled()
    yield made, actions
    task.cancel()


async def test_events_become_effects_in_order(driver: tuple[Driver, Recorder]) -> None:
    made, actions = driver
    assert [plan.name for plan in actions.started] == ["tiny"]
    made.post(ready(1))
    await made.settled()
    assert actions.tables[-1].served_names() == ("tiny",)


async def test_deadline_is_kept_without_any_event(
    driver: tuple[Driver, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, actions = driver
    monkeypatch.setattr("nodes.mesh.reconcile.RESTART_DELAY_FIRST_S", 0.05)
    made.post(exited(1))
    began = time.monotonic()
    while len(actions.started) < 2:
        await asyncio.sleep(0.005)
        assert time.monotonic() - began < 5
    assert time.monotonic() - began >= 0.045


async def test_feed_shows_what_the_core_publishes(driver: tuple[Driver, Recorder]) -> None:
    made, _ = driver
    made.post(ready(1))
    await made.settled()
    snapshot = made._feed.snapshot()
    assert snapshot.state["model/tiny"]["status"] == "warm"
    assert snapshot.history[-1]["kind"] == "engine_ready"


async def test_full_inbox_loses_samples_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from nodes.mesh.events import ServerLoadSampled
    from nodes.mesh.ids import ModelName

    monkeypatch.setattr(driver_module, "INBOX_MAX", 3)
    stuck = Driver(MeshNode(ME, ServingOptions()), Feed(), Recorder())
    sample = ServerLoadSampled(ModelName("tiny"), 0, 0, 0, 0.0, 0.0, None)
    for _ in range(10):
        stuck.post(sample)
    stuck.post(exited(1))
    assert len(stuck._inbox) == 4
