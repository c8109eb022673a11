"""One node's part of a split: what election, placement and status share. PURE."""

from dataclasses import dataclass

from nodes.mesh.ids import NodeId


@dataclass(frozen=True, slots=True)
class Seat:
    """One node's part of a split."""

    node_id: NodeId
    layers: int
    share: float
    """0 to 1, two decimals; all shares add up to 1."""
    rtt_ms: float | None
    """None: it is the host."""
