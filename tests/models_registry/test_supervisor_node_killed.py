"""No child outlives its node, however the node ends, and no other node's engine is touched."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from models_registry.children import reap, recorded
from models_registry.guard import identity
from models_registry.supervision.engine_http import ask
from models_registry.supervision.rpc_server import free_port
from tests.models_registry.real_engine import real_engine
from tests.models_registry.supervising import gone, until

pytestmark = pytest.mark.engine
REPO = Path(__file__).parent.parent.parent
BOUND_S = 5.0
"""After the node's sudden end no child of it is alive."""


@asynccontextmanager
async def little_node(
    model: Path, folder: Path, *options: str
) -> AsyncIterator[tuple[Process, int, list[int]]]:
    """Yield (the node, its guard's pid, its engines' pids); nothing of it outlives the test."""
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.models_registry.little_node", str(model), str(folder), *options,
        stdout=PIPE, cwd=REPO, start_new_session=True,
    )  # fmt: skip
    assert node.stdout
    async with asyncio.timeout(60):
        guard, *engines = [int(word) for word in (await node.stdout.readline()).split()]
    started = [(pid, identity(pid)) for pid in (guard, *engines)]
    try:
        yield node, guard, engines
    finally:
        if node.returncode is None:
            node.kill()
        await node.wait()
        for pid, known in started:
            if known and identity(pid) == known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def bystander(model: Path) -> AsyncIterator[int]:
    """Yield the port of an engine that is nobody's child here."""
    port = free_port()
    engine = await asyncio.create_subprocess_exec(
        real_engine().facts.server_path, "-m", str(model), "--port", str(port), "-t", "1", "-c", "512",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield port
        assert engine.returncode is None
        assert (await ask(port, "/health", deadline_s=30)).status == 200
    finally:
        with contextlib.suppress(ProcessLookupError):
            engine.kill()
        await engine.wait()


async def test_sigkill_of_the_node_ends_its_engines_and_no_other(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with (
        bystander(tiny_model),
        little_node(tiny_model, tmp_path, "rpc") as (node, guard, engines),
    ):
        assert len(engines) == 2
        node.kill()
        await until(lambda: all(gone(pid) for pid in (guard, *engines)), BOUND_S)


async def test_frozen_engine_of_a_killed_node_is_ended_too(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with little_node(tiny_model, tmp_path) as (node, _, (engine,)):
        os.kill(engine, signal.SIGSTOP)
        node.kill()
        await until(lambda: gone(engine), BOUND_S)


async def test_node_and_guard_killed_at_once(tmp_path: Path, tiny_model: Path) -> None:
    async with little_node(tiny_model, tmp_path) as (node, guard, (engine,)):
        os.kill(guard, signal.SIGKILL)
        node.kill()
        await node.wait()
        if not sys.platform.startswith("linux"):
            reap(tmp_path / "run")
        await until(lambda: gone(engine), BOUND_S)
        assert [child.pid for child in recorded(tmp_path / "run")] == [engine]
        assert reap(tmp_path / "run") == []
        assert recorded(tmp_path / "run") == []


async def test_group_signal_to_the_node_leaves_the_guard_to_its_work(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with little_node(tiny_model, tmp_path) as (node, guard, (engine,)):
        os.killpg(node.pid, signal.SIGKILL)
        await until(lambda: gone(engine) and gone(guard), BOUND_S)
