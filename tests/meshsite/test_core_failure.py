"""A core that fails: the node says so and ends, instead of standing there deaf."""

import asyncio
from pathlib import Path

import pytest

from meshsite.compose import build_node
from meshsite.options import Options
from meshsite.told import Endpoints
from nodes.mesh.events import Event, RestartRequested
from nodes.mesh.ids import ModelName
from nodes.mesh.node import MeshNode
from nodes.runtime.home import enter


async def test_node_whose_core_fails_tells_the_boot_to_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: MeshNode, event: Event, now: float) -> None:
        raise AssertionError("a rule was broken")

    monkeypatch.setattr(MeshNode, "handle", fails)
    home = enter(tmp_path / "home", ephemeral=False)
    ends = Endpoints(1, None, "http://localhost:1", None)
    node = build_node(Options(bind_ip="127.0.0.1"), home, lambda quic_port: ends)
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    node.on_fatal = told.set_result
    node.spawn(node._drive())
    node.driver.post(RestartRequested(ModelName("tiny")))
    async with asyncio.timeout(5):
        assert "core failed" in await told
    home.close()
