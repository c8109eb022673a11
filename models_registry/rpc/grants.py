"""Which node may reach which rpc-server of this machine: the host of the current split, in its term. PURE.

Decides from what the handshake proved (the peer) and what the peer says (port, term); the node sets
the table. A newer term for a port replaces the older one, whoever held it; an older one is refused.
"""

from dataclasses import dataclass, field

from nodes.mesh.ids import NodeId

PORTS_MAX = 64
"""rpc-servers of one node; a node has a handful."""


class NotGranted(Exception):
    """A peer may not reach this rpc-server. The text is a clause that it is told."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One peer may reach one rpc-server, in one term."""

    port: int
    peer: NodeId
    term: int


@dataclass(slots=True)
class Grants:
    """The table."""

    _grants: dict[int, Grant] = field(default_factory=dict)

    def give(self, grant: Grant) -> Grant | None:
        """Enter a grant; return the one that it ends: None when there was none, or the same stands.

        Raises:
            NotGranted: a newer term is known for this port, or there are too many ports.
        """
        before = self._grants.get(grant.port)
        if before is not None and before.term > grant.term:
            raise NotGranted(f"term {before.term} is newer than {grant.term}")
        if before is None and len(self._grants) >= PORTS_MAX:
            raise NotGranted(f"{PORTS_MAX} rpc-servers are granted already")
        self._grants[grant.port] = grant
        return before if before != grant else None

    def withdraw(self, port: int) -> Grant | None:
        """Strike the grant for a port; return it, if there was one."""
        return self._grants.pop(port, None)

    def holds(self, grant: Grant) -> bool:
        """Return whether exactly this grant stands."""
        return self._grants.get(grant.port) == grant

    def require(self, peer: NodeId, port: int, term: int) -> Grant:
        """Return the grant by which `peer` may reach this port.

        Raises:
            NotGranted: it may not; a stranger does not learn whether the port exists.
        """
        grant = self._grants.get(port)
        if grant is None or grant.peer != peer:
            raise NotGranted("no rpc-server here is yours")
        if grant.term != term:
            raise NotGranted(f"the split's term is {grant.term}, not {term}")
        return grant
