"""A core that fails: the node says so and ends, instead of standing there deaf."""

import asyncio
from pathlib import Path

import pytest

from meshsite.compose import Endpoints, NodeIdentity, RunningNode
from meshsite.options import Options
from nodes.mesh.events import Event, RestartRequested
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.node import MeshNode
from nodes.runtime.home import enter


async def test_node_whose_core_fails_tells_the_boot_to_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: MeshNode, event: Event, now: float) -> None:
        raise AssertionError("a rule was broken")

    monkeypatch.setattr(MeshNode, "handle", fails)
    home = enter(tmp_path / "home", ephemeral=False)
    identity = NodeIdentity(NodeId("ab" * 32), "m", lambda: "token")
    node = RunningNode(Options(), home, identity, Endpoints(1, None, "http://localhost:1", None))
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    node.on_fatal = told.set_result
    node.spawn(node._drive())
    node.driver.post(RestartRequested(ModelName("tiny")))
    async with asyncio.timeout(5):
        assert "core failed" in await told
    home.close()
