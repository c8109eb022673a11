"""A bare lane in a process of its own: `python -m benchmarks.lane.raw_peer MESH`; sinks and echoes."""

import asyncio
import sys

import uvloop

from benchmarks.lane.node import LOOPBACK, mesh_of
from nodes.mesh.ids import NodeId
from nodes.runtime import identity
from nodes.runtime.lane.lane import Incoming, Lane
from nodes.runtime.trust import Trust


async def echo(incoming: Incoming) -> None:
    tunnel = incoming.accept()
    while (part := await tunnel.read()) is not None:
        assert isinstance(part, bytes)
        await tunnel.write(part)
    tunnel.end()


async def sink(incoming: Incoming) -> None:
    tunnel = incoming.accept()
    count = 0
    while (part := await tunnel.read()) is not None:
        assert isinstance(part, bytes)
        count += len(part)
    await tunnel.write(count.to_bytes(8))
    tunnel.end()


async def no_quic(peer: NodeId) -> object:
    raise ConnectionError("no QUIC here")


async def main() -> None:
    trust = Trust(identity.ephemeral(), mesh_of(sys.argv[1]))
    lane = Lane(trust, {"echo": echo, "sink": sink}, no_quic)  # type: ignore[arg-type]
    print(trust.node_id, await lane.listen(LOOPBACK, 0), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
