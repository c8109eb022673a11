"""Requests between the nodes, as the running node wires them: ways out, what failed there, what is told.

Decides which failure of a request lets doubt that the other node lives: then gossip verifies it at once.
"""

from meshsite.side import Side
from nodes.mesh.engine_load import LoadReport
from nodes.mesh.events import ServerLoadSampled
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.routing import RoutingTable
from nodes.runtime.peer_streams import DialledStreams
from proxy.asgi import ApiApp
from proxy.upstream import UpstreamTrouble
from proxy.upstream_peer import PeerUpstreams

LINK_TROUBLES = frozenset(
    {UpstreamTrouble.UNREACHABLE, UpstreamTrouble.LINK_LOST, UpstreamTrouble.SILENT}
)
"""What lets doubt that the node lives; an engine that fails behind a living link does not."""


class PeerRequests:
    """The API's way to the engines of other nodes, and this node's load for their choice."""

    def __init__(self, api: ApiApp, mesh: Side) -> None:
        self._mesh = mesh
        self._streams = DialledStreams(mesh.transport, mesh.addresses_of)
        self._upstreams = PeerUpstreams(api.config, self._streams, self.link_failed)
        self.load = LoadReport()
        api.use_peers(self._upstreams)

    def host_failed(self, node_id: NodeId, trouble: UpstreamTrouble) -> None:
        """A request failed at another node."""
        if trouble in LINK_TROUBLES:
            self.link_failed(node_id)

    def link_failed(self, node_id: NodeId) -> None:
        """The way to a node failed under a request: whoever knows its life is asked."""
        self._mesh.use_failed(node_id)

    def sampled(self, sample: ServerLoadSampled, routes: RoutingTable) -> None:
        """Take the load of a model that this node serves."""
        own = next((u for u in routes.upstreams if u.host and u.model == sample.model), None)
        if own is not None:
            self.load.sampled(sample, own.slots)

    def routes_changed(self, before: RoutingTable, after: RoutingTable) -> None:
        """Tell nothing more of models that are no longer served here."""
        for model in _own_models(before) - _own_models(after):
            self.load.ended(model)

    def close(self) -> None:
        """End what is under way."""
        self._upstreams.close()
        self._streams.close()


def _own_models(table: RoutingTable) -> set[ModelName]:
    return {upstream.model for upstream in table.upstreams if upstream.host is not None}
