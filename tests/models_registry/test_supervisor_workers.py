"""The faults of a worker's rpc-server and of a host's ways to workers: told once, nothing left running."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from models_registry.launch import Unsupported
from models_registry.supervision.commands import EngineCommands
from models_registry.supervision.split_lane import SplitFault
from models_registry.supervisor import MAX_RUNS, Supervisor
from nodes.mesh.events import ServerExited, ServerReady, WorkerExited, WorkerReady
from nodes.mesh.ids import ModelName, NodeId, RunId
from nodes.mesh.plans import ServerPlan, SplitPlan, WorkerPlan, WorkerSeat
from tests.models_registry.supervising import Reports, Scripted, gone, plan, until

HOST = NodeId("ab" * 32)


@dataclass
class ScriptedLane:
    """Keeps what it is asked; refuses or waits on demand."""

    refuses: str = ""
    waits: bool = False
    said: list[tuple[object, ...]] = field(default_factory=list)

    async def open(self, plan: ServerPlan) -> tuple[int, ...]:
        await self._answer("open", plan.run_id)
        return (7001, 7002)

    def name_client(self, ports: Sequence[int], pid: int) -> None:
        self.said.append(("client", tuple(ports), pid))

    def close_ports(self, ports: Sequence[int]) -> None:
        self.said.append(("close", tuple(ports)))

    async def admit(self, plan: WorkerPlan, port: int) -> None:
        await self._answer("admit", port)

    def withdraw(self, port: int) -> None:
        self.said.append(("withdraw", port))

    async def _answer(self, word: str, about: int) -> None:
        self.said.append((word, about))
        if self.waits:
            await asyncio.Event().wait()
        if self.refuses:
            raise SplitFault(self.refuses)


class NoRpcServer(Scripted):
    def rpc_argv(self, *, port: int) -> list[str]:
        raise Unsupported("this build has no ggml-rpc-server")


@asynccontextmanager
async def at_work(
    commands: EngineCommands, folder: Path, lane: ScriptedLane
) -> AsyncIterator[tuple[Supervisor, Reports]]:
    reports = Reports()
    made = Supervisor(
        commands, run_dir=folder / "run", log_dir=folder / "logs", report=reports.events.append,
        lane=lane,
    )  # fmt: skip
    try:
        yield made, reports
    finally:
        await made.close(0)


def worker(run: int = 1) -> WorkerPlan:
    return WorkerPlan(RunId(run), ModelName("tiny"), HOST, 1, 3, ())


def split(run: int = 1) -> ServerPlan:
    seats = (WorkerSeat(NodeId("a1"), 1, 2), WorkerSeat(NodeId("b2"), 2, 2))
    return replace(plan(run=run), split=SplitPlan(1, seats, (2,)))


async def exited(reports: Reports) -> WorkerExited:
    found = await reports.wait_for(WorkerExited)
    await asyncio.sleep(0.05)
    assert reports.count(WorkerExited) == 1
    return found


async def test_host_is_let_in_before_it_is_told_and_kept_out_before_the_end(tmp_path: Path) -> None:
    lane = ScriptedLane()
    async with at_work(Scripted("--deaf-to-term"), tmp_path, lane) as (supervisor, reports):
        await supervisor.start_worker(worker())
        ready = await reports.wait_for(WorkerReady)
        assert lane.said == [("admit", ready.port)]
        assert supervisor.pids() == (ready.pid,)
        stopping = asyncio.create_task(supervisor.stop_worker(RunId(1)))
        await until(lambda: ("withdraw", ready.port) in lane.said)
        await stopping
        assert gone(ready.pid) and supervisor.pids() == ()
        end = await exited(reports)
        assert (end.asked, end.reason) == (True, "rpc-server for tiny was stopped")
        await supervisor.stop_worker(RunId(1))


async def test_host_that_cannot_be_let_in_is_the_end_of_it(tmp_path: Path) -> None:
    lane = ScriptedLane(refuses="term 5 is newer than 1")
    async with at_work(Scripted(), tmp_path, lane) as (supervisor, reports):
        await supervisor.start_worker(worker())
        end = await exited(reports)
        assert "cannot be reached by its host: term 5 is newer than 1" in end.reason
        assert not end.asked and reports.count(WorkerReady) == 0
        assert supervisor.pids() == ()


async def test_stop_while_the_host_is_being_let_in_does_not_wait_for_that(tmp_path: Path) -> None:
    lane = ScriptedLane(waits=True)
    async with at_work(Scripted(), tmp_path, lane) as (supervisor, reports):
        await supervisor.start_worker(worker())
        await until(lambda: bool(lane.said))
        async with asyncio.timeout(5):
            await supervisor.stop_worker(RunId(1))
        assert (await exited(reports)).asked
        assert lane.said[-1][0] == "withdraw"


async def test_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    for commands, why in (
        (NoRpcServer(), "has no ggml-rpc-server"),
        (Scripted(program="/no/rpc-server"), "could not be started"),
    ):
        async with at_work(commands, tmp_path, ScriptedLane()) as (supervisor, reports):
            await supervisor.start_worker(worker())
            end = await exited(reports)
            assert why in end.reason and not end.asked


async def test_killed_worker_is_told_of_once_and_its_host_kept_out(tmp_path: Path) -> None:
    lane = ScriptedLane()
    async with at_work(Scripted(), tmp_path, lane) as (supervisor, reports):
        await supervisor.start_worker(worker())
        ready = await reports.wait_for(WorkerReady)
        os.kill(ready.pid, signal.SIGKILL)
        end = await exited(reports)
        assert "signal 9" in end.reason and not end.asked
        assert lane.said[-1] == ("withdraw", ready.port)


async def test_cache_that_cannot_be_tidied_does_not_keep_the_end_untold(tmp_path: Path) -> None:
    class Untidy(Scripted):
        def tidy(self) -> None:
            raise OSError("the disk is gone")

    async with at_work(Untidy(), tmp_path, ScriptedLane()) as (supervisor, reports):
        await supervisor.start_worker(worker())
        ready = await reports.wait_for(WorkerReady)
        os.kill(ready.pid, signal.SIGKILL)
        assert "signal 9" in (await exited(reports)).reason
        assert supervisor.pids() == ()


async def test_workers_count_among_the_runs_and_end_with_the_supervisor(tmp_path: Path) -> None:
    async with at_work(Scripted(), tmp_path, ScriptedLane()) as (supervisor, reports):
        for run in range(MAX_RUNS):
            await supervisor.start_worker(worker(run))
        await supervisor.start_worker(worker(MAX_RUNS))
        assert "run already" in (await exited(reports)).reason
        await supervisor.start(plan(run=99))
        full = next(e for e in reports.events if isinstance(e, ServerExited))
        assert "run already" in full.reason
        await until(lambda: reports.count(WorkerReady) == MAX_RUNS, 60)
        pids = supervisor.pids()
        assert len(pids) == MAX_RUNS
        await supervisor.close(0)
        assert [pid for pid in pids if not gone(pid)] == []
        await supervisor.start_worker(worker(200))
        last = reports.events[-1]
        assert isinstance(last, WorkerExited) and last.asked and "stopping" in last.reason


async def test_engine_of_a_split_gets_the_ports_in_order_and_they_are_closed_after_it(
    tmp_path: Path,
) -> None:
    lane = ScriptedLane()
    seen: list[str] = []

    class Seen(Scripted):
        def server_argv(self, plan: ServerPlan, *, port: int, rpc: Sequence[str] = ()) -> list[str]:
            seen.extend(rpc)
            return super().server_argv(plan, port=port, rpc=rpc)

    async with at_work(Seen(), tmp_path, lane) as (supervisor, reports):
        await supervisor.start(replace(split(), rpc_self=True))
        ready = await reports.wait_for(ServerReady)
        assert seen[:2] == ["127.0.0.1:7001", "127.0.0.1:7002"] and len(seen) == 3
        assert lane.said == [("open", 1), ("client", (7001, 7002), ready.pid)]
        supervisor.tunnel_lost(7009, "somebody")
        await asyncio.sleep(0.1)
        assert not gone(ready.pid), "that port was another's"
        supervisor.tunnel_lost(7002, "box-3")
        await until(lambda: reports.count(ServerExited) == 1)
        end = reports.events[-1]
        assert isinstance(end, ServerExited) and not end.asked
        assert end.reason == (
            "llama-server for tiny lost its split: the connection to box-3 is gone"
        )
        assert gone(ready.pid) and supervisor.pids() == ()
        assert lane.said[-1] == ("close", (7001, 7002))


async def test_ways_that_cannot_be_opened_are_the_reason(tmp_path: Path) -> None:
    lane = ScriptedLane(refuses="box-2 cannot be reached")
    async with at_work(Scripted(), tmp_path, lane) as (supervisor, reports):
        await supervisor.start(split())
        await until(lambda: reports.count(ServerExited) == 1)
        end = reports.events[-1]
        assert isinstance(end, ServerExited)
        assert (end.returncode, end.asked) == (None, False)
        assert end.reason == "llama-server for tiny was not started: box-2 cannot be reached"


async def test_stop_while_ways_are_opened_does_not_wait_for_them(tmp_path: Path) -> None:
    lane = ScriptedLane(waits=True)
    async with at_work(Scripted(), tmp_path, lane) as (supervisor, reports):
        await supervisor.start(split())
        await until(lambda: bool(lane.said))
        async with asyncio.timeout(5):
            await supervisor.stop(RunId(1), 0)
        assert reports.count(ServerExited) == 1
        end = reports.events[-1]
        assert isinstance(end, ServerExited) and end.asked


async def test_node_without_a_lane_refuses_splits(tmp_path: Path) -> None:
    reports = Reports()
    supervisor = Supervisor(
        Scripted(), run_dir=tmp_path / "run", log_dir=tmp_path / "logs",
        report=reports.events.append,
    )  # fmt: skip
    await supervisor.start_worker(worker())
    assert "in no mesh" in (await exited(reports)).reason
    await supervisor.start(split(2))
    await until(lambda: reports.count(ServerExited) == 1)
    await supervisor.close(0)
