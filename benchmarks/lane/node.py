"""One node for the measurements: a QUIC link and a real lane process, put together as a node does."""

import socket
from pathlib import Path

from models_registry.log_ring import EngineLogs
from models_registry.rpc.lane_process import LaneProcess
from models_registry.supervision.guard_link import GuardLink
from models_registry.supervision.roster import Roster
from nodes.mesh.ids import NodeId
from nodes.runtime import identity, mesh_key
from nodes.runtime.address import Address
from nodes.runtime.lane import address as lane_address
from nodes.runtime.lane.bulk import BULK_KIND, BulkStreams
from nodes.runtime.link import Link
from nodes.runtime.mesh_key import MeshKey
from nodes.runtime.streams import Stream
from nodes.runtime.transport import Transport
from nodes.runtime.trust import Trust

LOOPBACK = "127.0.0.1"


def new_mesh() -> str:
    """Return a mesh as one word, for another process."""
    key = mesh_key.new_mesh()
    return f"{key.mesh_id}:{key.epoch}:{key.seed.hex()}"


def mesh_of(word: str) -> MeshKey:
    """Return the mesh that both sides of a measurement are in."""
    mesh_id, epoch, seed = word.split(":")
    return mesh_key.from_seed(mesh_id, int(epoch), bytes.fromhex(seed))


class Events:
    """What the transport tells: only streams matter here."""

    def __init__(self, node: "BenchNode") -> None:
        self._node = node

    async def stream(self, link: Link, stream: Stream) -> None:
        if stream.kind == BULK_KIND:
            await self._node.bulk.serve(link, stream)
        elif stream.kind == lane_address.ADDRESS_KIND:
            await lane_address.tell(lambda: self._node.lane.listen_port, link, stream)

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: None


class BenchNode:
    """A node without a membership core."""

    def __init__(self, mesh: str, folder: Path) -> None:
        self.trust = Trust(identity.ephemeral(), mesh_of(mesh))
        self.transport = Transport(
            self.trust, Events(self), instance=self.trust.node_id[:8].encode()
        )
        self.bulk = BulkStreams(self._hand_over)
        self.guard = GuardLink()
        self.folder = folder
        self.lane: LaneProcess

    async def start(self, *, tcp: bool) -> Address:
        """Return where it can be dialled; `tcp` False: its lane does not listen."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((LOOPBACK, 0))
        await self.transport.listen(sock)
        await self.guard.start()
        self.lane = LaneProcess(
            Roster(self.folder / "run", self.guard),
            EngineLogs(self.folder / "log").open("lane"),
            self.trust,
            self._open_quic,
            digests_folder=self.folder / "digests",
        )
        await self.lane.start()
        if tcp:
            await self.lane.listen(LOOPBACK, 0)
        return Address(LOOPBACK, self.transport.listen_port)

    async def meet(self, peer: NodeId, where: Address) -> None:
        """Link to a peer and learn where its lane is."""
        link = await self.transport.dial([where], peer)
        self.lane.set_endpoint(peer, await lane_address.ask(link))

    def _hand_over(self, peer: NodeId, sock: socket.socket) -> None:
        self.lane.adopt(peer, sock)

    async def _open_quic(self, peer: NodeId) -> socket.socket:
        return await self.bulk.open(self.transport.links[peer])

    async def close(self) -> None:
        await self.lane.close()
        await self.bulk.close()
        await self.transport.close()
        await self.guard.close()
