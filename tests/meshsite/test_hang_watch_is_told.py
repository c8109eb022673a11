"""What counts as a sign of life of an engine: tokens that flow, not requests that arrive."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from meshsite.compose import RunningNode, build_node
from meshsite.options import Options
from meshsite.told import Endpoints
from nodes.mesh.events import ServerLoadSampled
from nodes.mesh.ids import ModelName
from nodes.runtime.home import enter


class SupervisorSeen:
    def __init__(self) -> None:
        self.active: list[str] = []

    def note_activity(self, model: str) -> None:
        self.active.append(model)


def sample(in_flight: int, tokens: int, tokens_per_s: float = 0.0) -> ServerLoadSampled:
    return ServerLoadSampled(ModelName("tiny"), in_flight, 0, tokens, 0.0, tokens_per_s, None)


@pytest.fixture
async def node(tmp_path: Path) -> Any:
    home = enter(tmp_path / "home", ephemeral=False)
    ends = Endpoints(1, None, "http://localhost:1", None)
    made = build_node(Options(bind_ip="127.0.0.1"), home, lambda quic_port: ends)
    made.engines._supervisor = SupervisorSeen()  # type: ignore[assignment]
    yield made
    await asyncio.sleep(0)
    home.close()


async def test_requests_that_pile_up_at_a_frozen_engine_do_not_hide_it(node: RunningNode) -> None:
    node._load_changed(sample(1, 10))
    node.engines._supervisor.active.clear()  # type: ignore[union-attr]
    for waiting in range(2, 9):
        node._load_changed(sample(waiting, 10, tokens_per_s=10.0 - waiting))
    assert node.engines._supervisor.active == []  # type: ignore[union-attr]


async def test_tokens_that_flow_are_a_sign_of_life(node: RunningNode) -> None:
    node._load_changed(sample(1, 10))
    node._load_changed(sample(1, 12))
    assert node.engines._supervisor.active == ["tiny", "tiny"]  # type: ignore[union-attr]
