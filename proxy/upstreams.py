"""One way to every engine: those of this machine by HTTP, those of other nodes through the peer link."""

from nodes.mesh.routing import Upstream
from proxy.upstream import Answer, OutboundRequest, UpstreamClient, UpstreamError, UpstreamTrouble


class Upstreams:
    """The `UpstreamClient` of a node's API."""

    def __init__(self, local: UpstreamClient, peers: UpstreamClient | None = None) -> None:
        self._local = local
        self.peers = peers
        """Reaches the engines of other nodes; None: this node has no peers."""

    async def open(self, upstream: Upstream, request: OutboundRequest) -> Answer:
        """Return the answer once its headers are there. Raises UpstreamError."""
        if upstream.host is not None:
            return await self._local.open(upstream, request)
        if self.peers is None:
            raise UpstreamError(UpstreamTrouble.UNREACHABLE)
        return await self.peers.open(upstream, request)
