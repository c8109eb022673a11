"""A stub of the election: the member with the most memory hosts; every other outcome restarts an engine.

It looks at the table at each publication, as the real one does. Found are starts without a new outcome
(regossip that restarts engines), and outcomes that still change when all has long been at rest.
"""

from nodes.mesh.ids import NodeId
from tests.sim.parts import SimNode

REST_AFTER_S = 60.0
"""From the healing of everything to when tables must have come to rest: a minute's redials, at most."""


class StubEngine:
    """The engine of one process."""

    def __init__(self) -> None:
        self.host: NodeId | None = None
        self.changes = 0
        self.starts = 0
        self.changed_at = 0.0


class StubElections:
    """The elections of all processes. `engine_bug`: each publication restarts the engine."""

    def __init__(self, engine_bug: bool) -> None:
        self._engine_bug = engine_bug
        self._engines: dict[tuple[str, float], StubEngine] = {}

    def look(self, node: SimNode, now: float) -> str | None:
        """Elect anew; return what is wrong, if anything."""
        engine = self._engines.setdefault((node.name, node.started_at), StubEngine())
        table = {m.node_id: m.announcement.memory_bytes for m in node.gossip.members()}
        table[node.node_id] = node.gossip.record.body.announcement.memory_bytes
        host = max(table, key=lambda i: (table[i], i))
        if host != engine.host:
            engine.host = host
            engine.changed_at = now
            engine.changes += 1
            engine.starts += 1
        elif self._engine_bug:
            engine.starts += 1
        if engine.starts > engine.changes:
            engine.starts = engine.changes
            return f"restart storm: {node.name} started an engine with no new election outcome"
        return None

    def restless(self, node: SimNode, healed_at: float) -> bool:
        """Whether this node's outcome changed although nothing had happened for long."""
        engine = self._engines.get((node.name, node.started_at))
        return engine is not None and engine.changed_at > max(healed_at, 0.0) + REST_AFTER_S
