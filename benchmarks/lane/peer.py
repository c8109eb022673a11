"""The other machine: `python -m benchmarks.lane.peer FOLDER MESH tcp|quic`, told by JSON lines.

Prints its id and address, then answers each line of standard input; ends when that ends.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop

from benchmarks.lane.node import BenchNode
from nodes.mesh.ids import NodeId


async def main() -> None:
    node = BenchNode(sys.argv[2], Path(sys.argv[1]))
    where = await node.start(tcp=sys.argv[3] == "tcp")
    _say(id=node.trust.node_id, host=where.host, port=where.port)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    while line := await lines.readline():
        asked = json.loads(line)
        match asked["do"]:
            case "grant":
                host = NodeId(asked["host"])
                notes = await node.lane.grant(asked["port"], host, asked["term"], asked["files"])
                _say(notes=notes)
            case "share":
                node.lane.share(asked["models"])
                _say()
            case "report":
                load = [server.load for server in node.lane.report.servers]
                _say(saved=[one.weights_saved_bytes for one in load])
    await node.close()


def _say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
