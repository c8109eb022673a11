"""A node cut down to its lane: prints the guard's and the lane's pid, and waits to be killed.

`python -m tests.models_registry.rpc.little_lane_node FOLDER`
"""

import asyncio
import socket
import sys
from pathlib import Path

from models_registry.log_ring import EngineLogs
from models_registry.rpc.lane_process import LaneProcess
from models_registry.supervision.guard_link import GuardLink
from models_registry.supervision.roster import Roster
from nodes.mesh.ids import NodeId
from nodes.runtime import identity, mesh_key
from nodes.runtime.trust import Trust


async def no_quic(peer: NodeId) -> socket.socket:
    raise ConnectionError("no QUIC here")


async def main() -> None:
    folder = Path(sys.argv[1])
    guard = GuardLink()
    await guard.start()
    lane = LaneProcess(
        Roster(folder / "run", guard),
        EngineLogs(folder / "log").open("lane"),
        Trust(identity.ephemeral(), mesh_key.new_mesh()),
        no_quic,
        digests_folder=None,
    )
    await lane.start()
    await lane.listen("127.0.0.1", 0)
    print(guard.pid, lane.pid, flush=True)
    await asyncio.sleep(600)


asyncio.run(main())
