"""What the supervisor's tests share: plans, the reports it makes, a scripted engine, process facts."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from models_registry.engine.probe import Engine
from models_registry.guard import identity
from models_registry.supervision.commands import EngineCommands
from models_registry.supervision.hang_watch import HangLimits
from models_registry.supervisor import Supervisor
from nodes.mesh.events import Event, ServerExited
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.model_facts import Capability, ModelFacts
from nodes.mesh.plans import ServerPlan

QUICK = HangLimits(check_interval_s=0.3, silent_bound_s=1.5, busy_bound_s=60, token_interval_s=60)
SCRIPT = Path(__file__).parent.parent / "fakes" / "scripted_engine.py"
T = TypeVar("T")


def facts(path: Path | str, name: str = "tiny", *, embeddings: bool = False) -> ModelFacts:
    """Return facts enough to run a model."""
    return ModelFacts(
        name=ModelName(name), path=str(path), shards=(str(path),), size_bytes=2_700_000, architecture="llama",
        quantisation="F16", parameters=1_000_000, layers=6, context_train=4096, embedding_length=128,
        vocab_size=960, kv_bytes_per_token=1024, chat_template=True,
        capabilities=frozenset({Capability.EMBEDDINGS if embeddings else Capability.CHAT}),
    )  # fmt: skip


def plan(
    path: Path | str = "/no/model",
    run: int = 1,
    *,
    context: int = 512,
    rpc_self: bool = False,
    embeddings: bool = False,
) -> ServerPlan:
    """Return a plan with two slots."""
    return ServerPlan(
        RunId(run),
        facts(path, embeddings=embeddings),
        context=context,
        parallel=2,
        rpc_self=rpc_self,
    )


class Scripted(EngineCommands):
    """Commands of the scripted engine with these options."""

    def __init__(self, *options: str | Path, program: str = sys.executable) -> None:
        self._options = [str(option) for option in options]
        self._program = program

    def server_argv(self, plan: ServerPlan, *, port: int, rpc: Sequence[str] = ()) -> list[str]:
        return [self._program, str(SCRIPT), "--port", str(port), *self._options]

    def rpc_argv(self, *, port: int) -> list[str]:
        return [self._program, str(SCRIPT), "--port", str(port)]

    def tidy(self) -> None:
        """It leaves nothing on the disk."""

    def env(self) -> dict[str, str]:
        return dict(os.environ)


class Reports:
    """The events a supervisor reported."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def wait_for(self, kind: type[T], timeout_s: float = 30.0) -> T:
        """Return the first event of this kind."""
        async with asyncio.timeout(timeout_s):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        return event
                    assert not isinstance(event, ServerExited), event
                await asyncio.sleep(0.01)

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


@asynccontextmanager
async def supervising(
    engine: Engine | EngineCommands, folder: Path, limits: HangLimits | None = None
) -> AsyncIterator[tuple[Supervisor, Reports]]:
    """Yield a supervisor and its reports; close it in the end."""
    reports = Reports()
    supervisor = Supervisor(
        engine,
        run_dir=folder / "run",
        log_dir=folder / "logs",
        report=reports.events.append,
        limits=limits,
    )
    try:
        yield supervisor, reports
    finally:
        await supervisor.close(0)


def gone(pid: int) -> bool:
    """Return whether this process runs no more."""
    return identity(pid) is None


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Return when the condition holds. Raises: TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.02)
