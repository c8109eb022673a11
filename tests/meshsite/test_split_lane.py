"""A split by real engines over real lanes, as the node's shell runs it: started, used, lost, stopped."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from models_registry.children import recorded
from models_registry.demo.synthesize import synthesize
from models_registry.rpc.shares import layer_bytes
from nodes.mesh.events import WorkerExited
from nodes.mesh.gossip_effects import MemberState
from nodes.mesh.ids import ModelName, NodeId, RunId
from nodes.mesh.plans import WorkerPlan
from tests.meshsite.split_lab import (
    SplitLab,
    SplitNode,
    ended,
    solo_plan,
    split_lab,
    split_plan,
    started,
    words,
    worker_ended,
)
from tests.models_registry.real_engine import real_engine
from tests.models_registry.supervising import gone, until

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("models") / "tiny.gguf", "tiny")


def children(lab: SplitLab) -> list[int]:
    return [pid for one in lab.nodes for pid in one.supervisor.pids()]


def loaded(host: SplitNode) -> dict[NodeId, int]:
    """Return how much of its share each worker has, by the last word."""
    return {line.peer: line.loaded_bytes for told in host.lines()[-1:] for line in told.lines}


async def two_way(lab: SplitLab, model: Path) -> tuple[SplitNode, SplitNode, int, int]:
    """Return a host whose split is ready, its worker, the engine's port and pid."""
    host, worker = await lab.node(), await lab.node()
    seat = await worker.work_for(host, model, 3)
    ready = await started(host, split_plan(model, [seat]))
    return host, worker, ready.port, ready.pid


async def test_two_and_three_ways_answer_as_solo_and_stopping_leaves_nothing(
    tmp_path: Path, model: Path
) -> None:
    async with split_lab(tmp_path, real_engine()) as lab:
        host, near, far = await lab.node(), await lab.node(), await lab.node()
        alone = await words((await started(host, solo_plan(model))).port)
        assert host.lane._process is None, "a node alone has no lane process"
        seats = [await near.work_for(host, model, 3)]
        assert await words((await started(host, split_plan(model, seats, run=1))).port) == alone
        await host.supervisor.stop(RunId(1), 0)
        await near.supervisor.stop_worker(RunId(1))
        assert (await ended(host)).asked and (await worker_ended(near)).asked
        seats = [
            await near.work_for(host, model, 1, term=2, run=2),
            await far.work_for(host, model, 2, term=2, run=2, has_file=False),
        ]
        plan = split_plan(model, seats, term=2, run=2)
        assert await words((await started(host, plan)).port) == alone
        sizes = layer_bytes([str(model)], 6)
        shares = {near.id: sizes[0], far.id: sum(sizes[1:3])}
        # Told once a second at most, so some time after the load.
        await until(lambda: loaded(host) == shares)
        by_peer = {line.peer: line for line in host.lines()[-1].lines}
        assert {peer: line.expected_bytes for peer, line in by_peer.items()} == shares
        assert by_peer[near.id].bytes_saved > 0.9 * sizes[0]
        assert by_peer[far.id].bytes_saved == 0
        assert {line.via for line in by_peer.values()} == {"lane"}
        pids = children(lab)
        assert len(pids) == 3 + 1 + 2 + 2, "a lane process each, two workers, host's two engines"
        await lab.close()
        assert [pid for pid in pids if not gone(pid)] == []
        assert [child for one in lab.nodes for child in recorded(one.home.run)] == []


async def test_killed_worker_ends_the_idle_engine_at_once(tmp_path: Path, model: Path) -> None:
    async with split_lab(tmp_path, real_engine()) as lab:
        host, worker, _, pid = await two_way(lab, model)
        await asyncio.sleep(0.3)
        rpc = [child.pid for child in recorded(worker.home.run) if "rpc-server" in child.what]
        began_s = asyncio.get_running_loop().time()
        os.kill(rpc[0], signal.SIGKILL)
        end = await ended(host)
        assert asyncio.get_running_loop().time() - began_s < 1.0
        assert not end.asked
        assert "lost its split: the connection to box-2 is gone" in end.reason
        assert gone(pid)
        assert "killed" in (await worker_ended(worker)).reason
        assert host.reports.events == [] or not any(
            isinstance(event, WorkerExited) for event in host.reports.events
        )


async def test_frozen_worker_is_ended_where_it_runs(tmp_path: Path, model: Path) -> None:
    async with split_lab(tmp_path, real_engine()) as lab:
        host, worker, _, _ = await two_way(lab, model)
        rpc = [child.pid for child in recorded(worker.home.run) if "rpc-server" in child.what]
        began_s = asyncio.get_running_loop().time()
        os.kill(rpc[0], signal.SIGSTOP)
        end = await worker_ended(worker)
        assert asyncio.get_running_loop().time() - began_s < 6.0
        assert "stopped (frozen)" in end.reason and not end.asked
        assert gone(rpc[0])
        assert "box-2 is gone" in (await ended(host)).reason


async def test_frozen_own_rpc_server_ends_the_engine(tmp_path: Path, model: Path) -> None:
    async with split_lab(tmp_path, real_engine()) as lab:
        host, _, _, pid = await two_way(lab, model)
        own = [child.pid for child in recorded(host.home.run) if "rpc-server" in child.what]
        os.kill(own[0], signal.SIGSTOP)
        assert "stopped (frozen)" in (await ended(host)).reason
        assert gone(pid) and gone(own[0])


@pytest.mark.parametrize("whose", ["host", "worker"])
async def test_lane_process_killed_ends_the_engine_and_the_next_start_works(
    tmp_path: Path, model: Path, whose: str
) -> None:
    async with split_lab(tmp_path, real_engine()) as lab:
        host, worker, _, pid = await two_way(lab, model)
        broken = host if whose == "host" else worker
        old = broken.lane_pid
        began_s = asyncio.get_running_loop().time()
        os.kill(old, signal.SIGKILL)
        end = await ended(host)
        assert asyncio.get_running_loop().time() - began_s < 1.0
        assert "box-2 is gone" in end.reason and gone(pid)
        await worker.supervisor.stop_worker(RunId(1))
        seat = await worker.work_for(host, model, 2, term=2, run=2)
        ready = await started(host, split_plan(model, [seat], term=2, run=2))
        assert len(await words(ready.port, 4)) == 4
        assert broken.lane_pid != old


async def test_frozen_lane_process_is_ended_and_its_engine_with_it(
    tmp_path: Path, model: Path
) -> None:
    async with split_lab(tmp_path, real_engine()) as lab:
        host, worker, _, pid = await two_way(lab, model)
        old = worker.lane_pid
        os.kill(old, signal.SIGSTOP)
        assert "box-2 is gone" in (await ended(host)).reason
        assert gone(pid) and gone(old)
        await until(
            lambda: worker.lane._process is not None and worker.lane._process.pid is not None
        )


async def test_dead_member_ends_the_engine(tmp_path: Path, model: Path) -> None:
    async with split_lab(tmp_path, real_engine()) as lab:
        host, worker, _, _ = await two_way(lab, model)
        await asyncio.sleep(0.5)
        host.knows(worker, MemberState.DEAD)
        assert "connection to box-2 is gone" in (await ended(host)).reason


async def test_node_that_has_no_seat_is_not_let_in(tmp_path: Path, model: Path) -> None:
    async with split_lab(tmp_path, real_engine()) as lab:
        host, worker, stranger = await lab.node(), await lab.node(), await lab.node()
        seat = await worker.work_for(host, model, 3)
        await stranger.supervisor.start(split_plan(model, [seat]))
        end = await ended(stranger)
        assert "lost its split: the connection to box-2 is gone" in end.reason
        await host.supervisor.start(split_plan(model, [seat], term=7))
        assert "box-2 is gone" in (await ended(host)).reason
        ready = await started(host, split_plan(model, [seat], run=2))
        assert len(await words(ready.port, 2)) == 4


async def test_worker_that_cannot_be_reached_or_stopped_before_it_began_is_told_of_once(
    tmp_path: Path, model: Path
) -> None:
    async with split_lab(tmp_path, real_engine()) as lab:
        host, worker = await lab.node(), await lab.node()
        seat = await worker.work_for(host, model, 3)
        await worker.lane.close()
        await worker.node.transport.close()
        await host.supervisor.start(split_plan(model, [seat]))
        end = await ended(host)
        assert "was not started: box-2 cannot be reached" in end.reason
        plan = WorkerPlan(RunId(5), ModelName("tiny"), worker.id, 1, 3, ())
        await host.supervisor.start_worker(plan)
        await host.supervisor.stop_worker(RunId(5))
        assert (await worker_ended(host)).asked
        await worker.supervisor.start_worker(
            WorkerPlan(RunId(6), ModelName("m"), host.id, 1, 3, ())
        )
        assert "stopping" in (await worker_ended(worker)).reason
        assert not [e for n in lab.nodes for e in n.reports.events if isinstance(e, WorkerExited)]
