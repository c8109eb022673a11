"""A split's command line, and where a real engine then puts each layer."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from models_registry.engine.probe import Engine
from models_registry.gguf_header import read_facts
from models_registry.launch import Unsupported, engine_env, layer_counts, server_argv
from models_registry.supervision.commands import LaunchCommands
from nodes.mesh.ids import NodeId, RunId
from nodes.mesh.plans import ServerPlan, SplitPlan, WorkerSeat
from tests.models_registry.engine.conftest import engine_050, engine_070
from tests.models_registry.engine_process import free_port
from tests.models_registry.real_engine import real_engine
from tests.models_registry.rpc.engines import Served, rpc_server
from tests.models_registry.test_launch import PLAN, SOLO_070, argv, model

__all__ = ["engine_050", "engine_070"]


def split(workers: list[int], host: tuple[int, ...]) -> SplitPlan:
    seats = tuple(WorkerSeat(NodeId(f"{n:064x}"), 1, layers) for n, layers in enumerate(workers))
    return SplitPlan(1, seats, host)


TWO = ["127.0.0.1:1", "127.0.0.1:2"]


def test_output_layer_is_one_more_on_the_last_device() -> None:
    assert layer_counts(split([3, 1], (2,))) == (3, 1, 3)
    assert layer_counts(split([5], (10, 9))) == (5, 10, 10)


def test_split_is_whole_layers_workers_first_and_nothing_of_the_engines_own_choice(
    engine_050: Engine, engine_070: Engine
) -> None:
    plan = replace(PLAN, rpc_self=True, split=split([2], (4,)), tensor_split=(0.5, 0.5))
    tail = f"--rpc {','.join(TWO)} -ngl 99 --tensor-split 2,5"
    assert argv(engine_070, plan, rpc=TWO) == f"{SOLO_070} {tail} --fit off"
    assert argv(engine_050, plan, rpc=TWO).endswith(tail)


def test_draft_of_a_split_stays_on_the_host_and_a_projector_off_the_workers(
    engine_070: Engine,
) -> None:
    plan = replace(PLAN, draft=model("small"), split=split([2], (4,)))
    assert " -ngl 99 -ngld 0 --tensor-split 2,5 " in argv(engine_070, plan, rpc=TWO[:1])
    eye = replace(PLAN, model=replace(model(), mmproj_path="/m/eye.gguf"), split=split([2], (4,)))
    assert "--mmproj /m/eye.gguf --no-mmproj-offload " in argv(engine_070, eye, rpc=TWO[:1])


def test_operators_device_is_named_beside_the_workers(engine_070: Engine) -> None:
    plan = replace(PLAN, device="CUDA1", split=split([1, 1], (4,)))
    assert f"--rpc {','.join(TWO)} --device RPC0,RPC1,CUDA1 " in argv(engine_070, plan, rpc=TWO)


def test_device_behind_an_own_rpc_server_is_used_by_nobody_else(engine_070: Engine) -> None:
    plan = replace(PLAN, rpc_self=True, split=split([1], (5,)))
    words = LaunchCommands(engine_070, ["CUDA0", "CUDA1"]).server_argv(plan, port=1, rpc=TWO)
    assert words[words.index("--device") + 1] == "RPC0,RPC1"
    assert "--device" not in LaunchCommands(engine_070).server_argv(plan, port=1, rpc=TWO)
    rpc = LaunchCommands(engine_070, ["CUDA0", "CUDA1"]).rpc_argv(port=7)
    assert rpc[rpc.index("-d") + 1] == "CUDA0", "a device each: a host counts layers by rpc-server"
    assert "-d" not in LaunchCommands(engine_070).rpc_argv(port=7)


def test_build_that_cannot_split_says_so(engine_070: Engine) -> None:
    bare = replace(engine_070, flags=replace(engine_070.flags, rpc=None))
    with pytest.raises(Unsupported, match="has no --rpc, which a split over machines needs"):
        server_argv(bare, replace(PLAN, split=split([1], (5,))), port=1, threads=1, rpc=TWO)


@contextlib.contextmanager
def verbose_server(plan: ServerPlan, rpc: list[int], log: Path) -> Iterator[Served]:
    port = free_port()
    ends = [f"127.0.0.1:{one}" for one in rpc]
    words = [*server_argv(real_engine(), plan, port=port, threads=1, rpc=ends), "-v"]
    with (
        log.open("wb") as out,
        subprocess.Popen(words, stdout=out, stderr=out, env=engine_env(os.environ)) as process,
    ):
        try:
            yield Served(process, port, log, 0.0)
        finally:
            process.kill()


def placed(log: Path) -> list[str]:
    """Return the device of each layer, the output's last."""
    found = dict(
        re.findall(r"layer\s+(\d+) assigned to device (\w+)", log.read_text(errors="replace"))
    )
    return [found[str(number)] for number in range(len(found))]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("workers", "host", "devices"),
    [
        ([2], 4, "RPC0 RPC0 RPC1 RPC1 RPC1 RPC1 RPC1"),
        ([5], 1, "RPC0 RPC0 RPC0 RPC0 RPC0 RPC1 RPC1"),
        ([1, 3], 2, "RPC0 RPC1 RPC1 RPC1 RPC2 RPC2 RPC2"),
        ([3, 1], 2, "RPC0 RPC0 RPC0 RPC1 RPC2 RPC2 RPC2"),
    ],
)
async def test_real_engine_gives_every_device_its_count(
    tmp_path: Path, tiny_model: Path, workers: list[int], host: int, devices: str
) -> None:
    plan = ServerPlan(RunId(1), read_facts(tiny_model), 256, 1, rpc_self=True)
    with contextlib.ExitStack() as stack:
        rpc = [
            stack.enter_context(rpc_server(tmp_path / f"rpc{n}.log"))
            for n in range(len(workers) + 1)
        ]
        log = tmp_path / "engine.log"
        planned = replace(plan, split=split(workers, (host,)))
        with verbose_server(planned, rpc, log) as served:
            await served.ready()
            assert await served.answer("the node", 4)
        assert placed(log) == devices.split()


@pytest.mark.engine
async def test_real_engine_obeys_counts_that_no_fraction_hits(tmp_path: Path) -> None:
    """61 blocks over three devices: i/62 against the sums, in single precision, at every border."""
    from models_registry.demo.synthesize import synthesize

    deep = synthesize(tmp_path / "deep.gguf", "draft", layers=61)
    plan = ServerPlan(RunId(1), read_facts(deep), 256, 1, rpc_self=True)
    with contextlib.ExitStack() as stack:
        rpc = [stack.enter_context(rpc_server(tmp_path / f"rpc{n}.log")) for n in range(3)]
        for first, second in ((1, 1), (7, 23), (29, 31), (20, 20)):
            log = tmp_path / f"{first}.log"
            planned = replace(plan, split=split([first, second], (61 - first - second,)))
            with verbose_server(planned, rpc, log) as served:
                await served.ready()
            counts = [placed(log).count(f"RPC{n}") for n in range(3)]
            assert counts == [first, second, 62 - first - second]
