"""Small nodes for tests of the peer link: real sockets on loopback, real handshakes, no membership."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from nodes.mesh.ids import NodeId
from nodes.runtime import identity, mesh_key
from nodes.runtime.address import Address
from nodes.runtime.credentials import Credential, Role, issue
from nodes.runtime.identity import Identity
from nodes.runtime.link import Link, LinkNumber
from nodes.runtime.mesh_key import MeshKey
from nodes.runtime.streams import Stream
from nodes.runtime.transport import Transport
from nodes.runtime.transport_events import LinkEnd, TransportEvents
from nodes.runtime.transport_settings import TransportSettings
from nodes.runtime.trust import Trust

MAX_ECHO_BYTES = 8 << 20


@dataclass
class Recorder:
    """Keeps what the transport tells; echoes streams of kind ``echo``, holds those of kind ``hold``."""

    ups: list[tuple[NodeId, int]] = field(default_factory=list)
    downs: list[tuple[NodeId, int, LinkEnd, str]] = field(default_factory=list)
    datagrams: list[bytes] = field(default_factory=list)
    refused: list[Address] = field(default_factory=list)
    twins: list[tuple[NodeId, str]] = field(default_factory=list)
    held: list[Stream] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    def link_up(self, link: Link) -> None:
        self.ups.append((link.peer_id, link.number))

    def link_down(self, link: Link, number: LinkNumber, reason: LinkEnd, text: str) -> None:
        self.downs.append((link.peer_id, number, reason, text))

    def datagram(self, link: Link, content: bytes) -> None:
        self.datagrams.append(content)

    async def stream(self, link: Link, stream: Stream) -> None:
        if stream.kind == "hold":
            self.held.append(stream)
            return
        try:
            while chunk := await stream.read():
                await stream.write(chunk)
        except ConnectionError as error:
            self.faults.append(error)
            raise
        stream.end()

    def port_refused(self, link: Link, address: Address) -> None:
        self.refused.append(address)

    def twin_seen(self, node_id: NodeId, text: str) -> None:
        self.twins.append((node_id, text))


@dataclass
class LabNode:
    """One node on loopback."""

    trust: Trust
    transport: Transport
    seen: Recorder
    address: Address

    @property
    def id(self) -> NodeId:
        return self.trust.node_id

    def link_to(self, other: "LabNode") -> Link:
        return self.transport.links[other.id]

    def connection_to(self, other: "LabNode") -> Any:
        """Return the connection in use, untyped: tests misuse its inside."""
        primary = self.link_to(other).primary
        assert primary is not None
        return primary.connection

    @property
    def listener(self) -> Any:
        """The listening side, untyped."""
        assert self.transport._listener is not None
        return self.transport._listener


QUICK = TransportSettings(
    handshake_timeout_s=2.0, dial_timeout_s=2.0, handshakes_per_s=1e6, handshakes_burst=1_000_000
)


class Lab:
    """Makes nodes of one mesh (or of others) and closes them all."""

    def __init__(self) -> None:
        self.key = mesh_key.new_mesh()
        self.nodes: list[LabNode] = []

    async def node(
        self,
        *,
        key: MeshKey | None = None,
        who: Identity | None = None,
        credential: Credential | None = None,
        client: bool = False,
        settings: TransportSettings = QUICK,
        now_s: Callable[[], float] = time.time,
        events: TransportEvents | None = None,
        **options: Any,
    ) -> LabNode:
        """Return a node; `events` None: its `seen` records what the transport tells."""
        who = who or identity.ephemeral()
        mesh = key or self.key
        if client:
            credential = credential or issue(mesh, who.node_id, Role.CLIENT, time.time())
            trust = Trust(who, None, credential, now_s)
        else:
            trust = Trust(who, mesh, credential, now_s)
        seen = Recorder()
        options.setdefault("instance", who.node_id.encode()[:7] + bytes([len(self.nodes)]))
        transport = Transport(trust, events or seen, settings, **options)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        if client:
            sock.close()
        else:
            await transport.listen(sock)
        node = LabNode(trust, transport, seen, Address("127.0.0.1", port))
        self.nodes.append(node)
        return node

    async def pair(self, **options: Any) -> tuple[LabNode, LabNode]:
        """Return two nodes of one mesh, the first having dialled the second."""
        one, two = await self.node(**options), await self.node(**options)
        await one.transport.dial([two.address], two.id)
        await until(lambda: one.id in two.transport.links)
        return one, two

    async def close(self) -> None:
        for node in self.nodes:
            await node.transport.close()


@contextlib.asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    made = Lab()
    try:
        yield made
    finally:
        await made.close()


def overrule(target: object, name: str, value: object) -> None:
    """Make one object behave otherwise: how a test plays a faulty or hostile node."""
    setattr(target, name, value)


async def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Return once `condition()` is true; fail the test when it does not become so."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is of many kinds
            await asyncio.sleep(0.005)
