"""The node as one state machine: `handle(event, now) -> effects`, and one `deadline`.

Composes what a node decides; today that is serving. The gossip half joins it here.
Called by one task only (`nodes.runtime.driver`); nothing else changes mesh state, so no locks.
"""

from nodes.mesh.effects import ChangeRoutes, Effect, PublishDelta
from nodes.mesh.events import Event
from nodes.mesh.placement import ServingOptions
from nodes.mesh.routing import RoutingTable
from nodes.mesh.serving import Serving
from nodes.mesh.snapshot import State, difference
from nodes.mesh.view import Me, routing_table, state_map


class MeshNode:
    """The truth about the running node."""

    def __init__(self, me: Me, options: ServingOptions) -> None:
        self.me = me
        self.serving = Serving(options)
        self._shown: State = {}
        self._routes = RoutingTable(me.node_id, (), me.started_at)

    @property
    def deadline(self) -> float | None:
        """When the driver must hand in `TimePassed`; None: only when something happens."""
        return self.serving.deadline

    @property
    def routes(self) -> RoutingTable:
        """The table of the last `ChangeRoutes`."""
        return self._routes

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event at `now` (seconds, monotonic); return what is to be done, in order."""
        effects = self.serving.handle(event, now)
        effects.extend(self._differences())
        return effects

    def opening(self) -> list[Effect]:
        """Return the first view and table, for a driver that starts."""
        return self._differences()

    def _differences(self) -> list[Effect]:
        effects: list[Effect] = []
        table = routing_table(self.me, self.serving)
        if table != self._routes:
            self._routes = table
            effects.append(ChangeRoutes(table))
        shown = state_map(self.me, self.serving)
        put, drop = difference(self._shown, shown)
        if put or drop:
            self._shown = shown
            effects.append(PublishDelta(put, drop))
        return effects
