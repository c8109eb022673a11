"""The other node's process, from this side."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lane.node import new_mesh
from benchmarks.process import REPO
from nodes.mesh.ids import NodeId
from nodes.runtime.address import Address


@dataclass
class Other:
    """A running peer."""

    process: Process
    mesh: str
    id: NodeId
    where: Address

    async def ask(self, **command: object) -> Any:
        """Return its answer to a command."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        return json.loads(await self.process.stdout.readline())


@asynccontextmanager
async def other_node(folder: Path, *, tcp: bool) -> AsyncIterator[Other]:
    """Yield a peer in a process of its own; `tcp` False: only QUIC leads to it."""
    folder.mkdir(parents=True)
    mesh = new_mesh()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.lane.peer", str(folder), mesh, "tcp" if tcp else "quic",
        stdin=PIPE, stdout=PIPE, cwd=REPO,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    try:
        facts = json.loads(await process.stdout.readline())
        yield Other(process, mesh, NodeId(facts["id"]), Address(facts["host"], facts["port"]))
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
