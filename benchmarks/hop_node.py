"""`python -m benchmarks.hop_node`: one node's API and peer link, without engines, gossip or console.

The parts that a request passes on its way through a node, and nothing else, so that the figures are the
hop's. A spec as JSON on stdin; the line `ready` on stdout once it can be asked.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable

import msgspec
import uvloop

from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.routing import ModelState, RoutingTable, Upstream
from nodes.runtime import identity, mesh_key
from nodes.runtime.address import Address
from nodes.runtime.links import PeerLinks
from nodes.runtime.peer_streams import DialledStreams
from nodes.runtime.transport import Transport
from nodes.runtime.trust import Trust
from proxy.asgi import ApiApp
from proxy.config import ApiConfig
from proxy.front import ApiServer
from proxy.upstream_peer import PeerUpstreams

MODEL = ModelName("fake")
UPSTREAM_SLOTS = 512


class HopSpec(msgspec.Struct):
    """What a node is told."""

    mesh_id: str
    seed: bytes
    api_port: int
    quic_port: int
    engine_port: int = 0
    """0: it has no engine, and asks the hosts."""
    hosts: dict[str, int] = {}
    """Node id -> QUIC port on loopback."""
    profile: str = ""
    """Where cProfile's figures go at the end; empty: it does not run."""


async def run(spec: HopSpec) -> None:
    """Serve until SIGTERM."""
    who = identity.ephemeral()
    key = mesh_key.from_seed(mesh_key.MeshId(spec.mesh_id), 1, spec.seed)
    handlers: dict[str, Callable[..., object]] = {}
    links = PeerLinks(lambda event: None, 3600.0, handlers)  # type: ignore[arg-type]
    transport = Transport(Trust(who, key), links)
    links.attach(transport)
    config = ApiConfig()
    table = RoutingTable(who.node_id, _upstreams(spec, who.node_id), 1)
    places = {NodeId(name): [Address("127.0.0.1", port)] for name, port in spec.hosts.items()}
    streams = DialledStreams(transport, lambda node_id: places[node_id])
    turns = _Turns(table)
    api = ApiApp(config, turns, lambda record: None, who.node_id, PeerUpstreams(config, streams))
    links._handlers["request"] = api.peer_desk.serve
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", spec.quic_port))
    await transport.listen(udp)
    for node_id, addresses in places.items():
        await transport.dial(addresses, node_id)
    server = ApiServer(api, [socket.create_server(("127.0.0.1", spec.api_port))], config)
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print(f"ready {who.node_id}", flush=True)
    with _profiled(spec.profile):
        await ended.wait()
    await server.stop(0)
    await transport.close()


class _Turns:
    """The table, its hosts in turn first: what routing will do by load."""

    def __init__(self, table: RoutingTable) -> None:
        ups = table.upstreams
        self._tables = [
            RoutingTable(table.node_id, ups[n:] + ups[:n], table.created_s) for n in range(len(ups))
        ]
        self._next = 0

    def __call__(self) -> RoutingTable:
        self._next = (self._next + 1) % len(self._tables)
        return self._tables[self._next]


def _upstreams(spec: HopSpec, own_id: NodeId) -> tuple[Upstream, ...]:
    def upstream(node_id: NodeId, host: str | None, port: int | None) -> Upstream:
        state = ModelState.READY
        return Upstream(node_id, MODEL, state, host, port, UPSTREAM_SLOTS, 4096, frozenset())

    if spec.engine_port:
        return (upstream(own_id, "127.0.0.1", spec.engine_port),)
    return tuple(upstream(NodeId(name), None, None) for name in spec.hosts)


@contextlib.contextmanager
def _profiled(path: str):  # type: ignore[no-untyped-def]
    if not path:
        yield
        return
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    yield
    profile.disable()
    profile.dump_stats(path)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "meshsite.settings")
    told = msgspec.json.decode(sys.stdin.buffer.read(), type=HopSpec)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(told))
