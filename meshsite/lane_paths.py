"""The ways between this node's lane and those of others, over the peer links.

Streams of the QUIC fallback, in both directions, and where a lane listens, asked and told. Links are
dialled where none is up, as for requests.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from models_registry.rpc.lane_process import LaneProcess
from models_registry.supervision.split_lane import SplitFault
from nodes.mesh.ids import NodeId
from nodes.runtime.address import Address
from nodes.runtime.credentials import Role
from nodes.runtime.dial_errors import DialError
from nodes.runtime.lane import address
from nodes.runtime.lane.bulk import BULK_KIND, BulkStreams
from nodes.runtime.link import Link
from nodes.runtime.links import StreamHandler
from nodes.runtime.peer_streams import DIAL_MAX_S, link_to
from nodes.runtime.streams import Stream
from nodes.runtime.transport import Transport
from nodes.runtime.trust import Trust

log = logging.getLogger("mesh.node")


class LaneLinks(Protocol):
    """What the lane needs of the node's side of the mesh."""

    trust: Trust
    transport: Transport
    on_standing: Callable[[], None]

    def addresses_of(self, node_id: NodeId) -> Sequence[Address]: ...
    def use_failed(self, node_id: NodeId) -> None: ...


class LanePaths:
    """The ways. `attach` the side of the mesh before anything else."""

    def __init__(
        self,
        started: Callable[[], Awaitable[LaneProcess]],
        running: Callable[[], LaneProcess | None],
        name_of: Callable[[NodeId], str],
    ) -> None:
        """`started` returns the lane process, started where it is not; it raises SplitFault."""
        self._started = started
        self._running = running
        self._name_of = name_of
        self._links: LaneLinks | None = None
        self._bulk = BulkStreams(self._hand_over)

    @property
    def handlers(self) -> dict[str, StreamHandler]:
        """What serves the lane's streams over the peer link."""
        return {BULK_KIND: self._bulk.serve, address.ADDRESS_KIND: self._tell}

    def attach(self, links: LaneLinks) -> None:
        """Go over these links."""
        self._links = links

    async def close(self) -> None:
        """End the fallback's streams."""
        await self._bulk.close()

    async def learn(self, process: LaneProcess, peer: NodeId) -> None:
        """Ask a peer where its lane listens. Raises: SplitFault: it cannot be reached at all."""
        try:
            link = await self._link(peer)
        except DialError as error:
            raise SplitFault(f"{self._name_of(peer)} cannot be reached ({error})") from error
        process.set_endpoint(peer, await address.ask(link))

    def doubt(self, peer: NodeId) -> None:
        """A tunnel broke: whoever knows the peer's life is asked, so that a death is known at once."""
        if self._links is not None:
            self._links.use_failed(peer)

    async def open_quic(self, peer: NodeId) -> socket.socket:
        """Return the lane's end of a new stream to a peer (`LaneProcess`). Raises: ConnectionError."""
        try:
            return await self._bulk.open(await self._link(peer))
        except DialError as error:
            raise ConnectionError(f"{self._name_of(peer)} is not reached ({error})") from error

    async def _link(self, peer: NodeId) -> Link:
        """Return the link to a peer, dialled where none is up. Raises: DialError."""
        assert self._links is not None, "attach first"
        addresses = self._links.addresses_of(peer)
        return await link_to(self._links.transport, addresses, peer, DIAL_MAX_S)

    def _hand_over(self, peer: NodeId, sock: socket.socket) -> None:
        process = self._running()
        if process is None:
            raise ConnectionError("there is no lane process")
        process.adopt(peer, sock)

    async def _tell(self, link: Link, stream: Stream) -> None:
        """Tell a member where this node's lane listens, after starting it."""
        port = 0
        if link.role is Role.MEMBER:
            try:
                port = (await self._started()).listen_port
            except SplitFault as fault:
                log.info("%s asks for the lane: %s.", self._name_of(link.peer_id), fault)
        await address.tell(lambda: port, link, stream)
