"""With whom this node keeps a link, and so whom it probes, however large the mesh is.

Small mesh: with everyone. Large mesh: with the successor and the predecessor on each of k rings, so 2k
links at most; the relation is symmetric where two tables agree, and the graph is an expander, so gossip
still needs about log n hops. A ring orders the ids by one 4-byte slice of each id (ids are hashes, so
every slice is as good as a hash of its own). Source: Rapid section 4 (k rings of observers).
"""

import functools
from collections.abc import Collection, Iterable

from nodes.mesh.ids import NodeId

_WRAP = 2**32


@functools.lru_cache(maxsize=16_384)
def ring_positions(node_id: NodeId) -> tuple[int, ...]:
    """Return the id's position on each of the eight rings."""
    raw = bytes.fromhex(node_id)
    return tuple(int.from_bytes(raw[i : i + 4]) for i in range(0, 32, 4))


class Neighbours:
    """The neighbours of one node, kept up to date as members come and go."""

    __slots__ = ("_after", "_before", "_full_max", "_me", "_members", "_rings", "_set", "_stale")

    def __init__(self, me: NodeId, members: Collection[NodeId], full_max: int, rings: int) -> None:
        self._me = ring_positions(me)[:rings]
        self._members = members
        self._full_max = full_max
        self._rings = range(len(self._me))
        self._stale = True
        self._set: frozenset[NodeId] = frozenset()
        self._after: list[tuple[int, NodeId]] = []
        self._before: list[tuple[int, NodeId]] = []

    def added(self, node_id: NodeId) -> None:
        """A member came: it may be nearer than a present neighbour. Costs k comparisons."""
        if self._stale or len(self._members) <= self._full_max + 1:
            self._stale = True
            return
        positions = ring_positions(node_id)
        for ring in self._rings:
            forward = (positions[ring] - self._me[ring]) % _WRAP
            if (forward, node_id) < self._after[ring] or (forward, node_id) > self._before[ring]:
                self._stale = True
                return

    def removed(self, node_id: NodeId) -> None:
        """A member went: where it was a neighbour, another takes its place."""
        if node_id in self._set or len(self._members) <= self._full_max:
            self._stale = True

    def current(self) -> frozenset[NodeId]:
        """Return the neighbours. Scans the table only after a change that mattered."""
        if self._stale:
            self._scan(self._members)
            self._stale = False
        return self._set

    def _scan(self, members: Iterable[NodeId]) -> None:
        if len(self._members) <= self._full_max:
            self._set = frozenset(members)
            return
        placed = [(ring_positions(m), m) for m in members]
        self._after, self._before = [], []
        for ring in self._rings:
            mine = self._me[ring]
            ordered = [((p[ring] - mine) % _WRAP, m) for p, m in placed]
            self._after.append(min(ordered))
            self._before.append(max(ordered))
        self._set = frozenset(m for _, m in self._after + self._before)
