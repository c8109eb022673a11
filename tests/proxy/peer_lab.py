"""An API that asks other nodes: real HTTP at the front, real QUIC between, scripted engines behind."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.routing import ModelState, RoutingTable, Upstream
from nodes.runtime.links import PeerLinks
from nodes.runtime.peer_streams import DialledStreams
from proxy.asgi import ApiApp, ApiConfig
from proxy.front import ApiServer
from proxy.records import RequestRecord
from proxy.upstream_peer import PeerUpstreams
from tests.nodes.link_lab import Lab, LabNode, lab
from tests.proxy.conftest import Api, upstream
from tests.proxy.fake_upstream import FakeUpstream

CHAT = "/v1/chat/completions"
BODY = b'{"model":"demo","stream":true}'


@dataclass
class Host:
    """A node with an engine."""

    node: LabNode
    app: ApiApp
    engine: FakeUpstream
    links: PeerLinks
    own: Upstream
    """What its own table says of its engine; replace it to change the state."""
    asked_here: list[RequestRecord] = field(default_factory=list)

    @property
    def id(self) -> NodeId:
        return self.node.id

    def table(self) -> RoutingTable:
        return RoutingTable(self.id, (self.own,), 1)

    async def die(self) -> None:
        """Vanish as a killed process does: not a word to anybody, the port is closed."""
        listener = self.node.listener
        listener._transport.close()
        for link in self.node.transport.links.values():
            for strand in link.strands:
                strand.connection._transport.close()  # type: ignore[union-attr]
        await self.engine.stop()


@dataclass
class Mesh:
    """An entry node without an engine, and hosts."""

    lab: Lab
    entry: LabNode
    api: Api
    peers: PeerUpstreams
    hosts: list[Host]
    failed: list[NodeId]
    """Nodes that were reported because of their link."""
    upstreams: list[Upstream]
    """The entry's table; change it at any time."""


def behind(node: NodeId, model: str = "demo", **changes: Any) -> Upstream:
    """Return what a table says of a model on another node."""
    return replace(upstream(0, model, node), host=None, port=None, **changes)


async def start_host(made: Lab, stack: contextlib.AsyncExitStack, **changes: Any) -> Host:
    """Return a host with a scripted engine, listening for peers."""
    engine = FakeUpstream()
    await engine.start()
    stack.push_async_callback(engine.stop)
    config = ApiConfig(**{"sweep_interval_s": 0.05, **changes})
    handlers: dict[str, Any] = {}
    links = PeerLinks(lambda event: None, 60.0, handlers)
    node = await made.node(events=links)
    links.attach(node.transport)
    stack.push_async_callback(links.close)
    host: Host
    asked: list[RequestRecord] = []
    app = ApiApp(config, lambda: host.table(), asked.append, node.id)  # noqa: PLW0108 - made below
    own = Upstream(
        node.id, ModelName("demo"), ModelState.READY, "127.0.0.1", engine.port, 4, 4096, frozenset()
    )
    host = Host(node, app, engine, links, own, asked)
    links._handlers["request"] = app.peer_desk.serve
    stack.callback(app.close)
    return host


@contextlib.asynccontextmanager
async def mesh(
    hosts: int = 1,
    *,
    client: bool = False,
    host_config: dict[str, Any] | None = None,
    **changes: Any,
) -> AsyncIterator[Mesh]:
    """Yield an entry (a client of the mesh where `client`) and so many hosts; `changes`: of its config."""
    async with lab() as made, contextlib.AsyncExitStack() as stack:
        found = [await start_host(made, stack, **(host_config or {})) for _ in range(hosts)]
        entry = await made.node(client=client)
        config = ApiConfig(**{"sweep_interval_s": 0.05, **changes})
        places = {host.id: [host.node.address] for host in found}
        streams = DialledStreams(entry.transport, lambda node_id: places.get(node_id, []))
        stack.callback(streams.close)
        failed: list[NodeId] = []
        peers = PeerUpstreams(config, streams, failed.append)
        # The first has by far the most slots, so it is asked first.
        upstreams = [behind(host.id, slots=4_096 >> 10 * n) for n, host in enumerate(found)]
        records: list[RequestRecord] = []
        app = ApiApp(
            config,
            lambda: RoutingTable(entry.id, tuple(upstreams), 1),
            records.append,
            entry.id,
            peers,
        )
        sock = socket.create_server(("127.0.0.1", 0))
        server = ApiServer(app, [sock], config)
        await server.start()
        stack.callback(app.close)
        stack.push_async_callback(server.stop, 0)
        api = Api(app, server, sock.getsockname()[1], records, upstreams)
        yield Mesh(made, entry, api, peers, found, failed, upstreams)
        await asyncio.sleep(0)
