"""Lanes for tests: real sockets on loopback, real handshakes, no engine."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodes.mesh.ids import NodeId
from nodes.runtime import identity, mesh_key
from nodes.runtime.credentials import Credential, Role, issue
from nodes.runtime.identity import Identity
from nodes.runtime.lane.endpoints import LaneEndpoint
from nodes.runtime.lane.lane import Handler, Incoming, Lane
from nodes.runtime.lane.pool import OpenQuic
from nodes.runtime.lane.settings import LaneSettings
from nodes.runtime.lane.tunnel import Message, Tunnel
from nodes.runtime.mesh_key import MeshKey
from nodes.runtime.trust import Trust

QUICK = LaneSettings(
    connect_timeout_s=1.0, handshake_timeout_s=2.0, answer_timeout_s=5.0, retry_first_s=0.2
)
HOLD_S = 60.0


async def no_quic(peer: NodeId) -> socket.socket:
    raise ConnectionError("no QUIC in this test")


@dataclass
class LabLane:
    """One node's lane, with a few handlers."""

    trust: Trust
    lane: Lane
    endpoint: LaneEndpoint
    seen: list[tuple[NodeId, bytes]] = field(default_factory=list)
    """Who wanted what of the handlers."""
    held: list[Tunnel] = field(default_factory=list)

    @property
    def id(self) -> NodeId:
        return self.trust.node_id

    def knows(self, *others: "LabLane") -> None:
        for other in others:
            self.lane.endpoints.set(other.id, other.endpoint)

    @property
    def channels(self) -> Any:
        return self.lane._pool.channels()


class LaneLab:
    """Makes lanes of one mesh (or of others) and closes them all."""

    def __init__(self) -> None:
        self.key = mesh_key.new_mesh()
        self.lanes: list[LabLane] = []

    def trust(
        self,
        *,
        key: MeshKey | None = None,
        who: Identity | None = None,
        client: bool = False,
        credential: Credential | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> Trust:
        who = who or identity.ephemeral()
        mesh = key or self.key
        if client:
            credential = issue(mesh, who.node_id, Role.CLIENT, time.time())
            return Trust(who, None, credential, now_s)
        return Trust(who, mesh, credential, now_s)

    async def lane(
        self,
        *,
        trust: Trust | None = None,
        settings: LaneSettings = QUICK,
        open_quic: OpenQuic = no_quic,
        handlers: Mapping[str, Handler] | None = None,
        **who: Any,
    ) -> LabLane:
        trust = trust or self.trust(**who)
        made: list[LabLane] = []

        async def echo(incoming: Incoming) -> None:
            made[0].seen.append((incoming.peer_id, incoming.details))
            tunnel = incoming.accept(b"welcome")
            while (part := await tunnel.read()) is not None:
                if isinstance(part, Message):
                    await tunnel.tell(part.body)
                else:
                    await tunnel.write(part)
            tunnel.end()

        async def hold(incoming: Incoming) -> None:
            made[0].held.append(incoming.accept())
            await asyncio.sleep(HOLD_S)

        async def refuse(incoming: Incoming) -> None:
            return None

        usual: dict[str, Handler] = {"echo": echo, "hold": hold, "refuse": refuse}
        lane = Lane(trust, usual | dict(handlers or {}), open_quic, settings)
        port = await lane.listen("127.0.0.1", 0)
        made.append(LabLane(trust, lane, LaneEndpoint("127.0.0.1", port)))
        self.lanes.append(made[0])
        return made[0]

    async def pair(self, **options: Any) -> tuple[LabLane, LabLane]:
        one, two = await self.lane(**options), await self.lane(**options)
        one.knows(two)
        two.knows(one)
        return one, two


@contextlib.asynccontextmanager
async def lanes() -> AsyncIterator[LaneLab]:
    lab = LaneLab()
    try:
        yield lab
    finally:
        for one in lab.lanes:
            await one.lane.close()


async def read_content(tunnel: Tunnel, size: int) -> bytes:
    """Return exactly `size` bytes of content."""
    content = bytearray()
    while len(content) < size:
        part = await tunnel.read()
        assert isinstance(part, bytes), part
        content += part
    return bytes(content)
