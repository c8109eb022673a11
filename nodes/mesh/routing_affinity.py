"""Which host answered a conversation's last turn: there its prompt is already in the engine's memory.

A key stands for everything that was in one request (`proxy.conversation` makes it from the messages, each
adding to the one before). A conversation's next request begins with all of the last one, so the last one's
key is among the next one's. Bounded; the longest unused goes first. Knows no load: whether a conversation
stays is decided in `routing_order`.
"""

from collections.abc import Container, Iterable

from nodes.mesh.ids import NodeId

CONVERSATIONS_MAX = 8_192
"""Turns remembered, about 2 MB of memory; beyond, the one unused for the longest is forgotten."""
KEPT_S = 1_800.0
"""After so long the engine's slot has most likely been given to another prompt."""


class Affinity:
    """Keys of past requests, and who answered them. Times are seconds of one monotonic clock."""

    __slots__ = ("_limit", "_turns")

    def __init__(self, limit: int = CONVERSATIONS_MAX) -> None:
        self._turns: dict[bytes, tuple[NodeId, float]] = {}
        self._limit = limit

    def find(self, keys: Iterable[bytes], hosts: Container[NodeId], now: float) -> NodeId | None:
        """Return who answered the first of `keys` that one of `hosts` did; the longest prefix comes first."""
        for key in keys:
            found = self._turns.get(key)
            if found is not None and found[0] in hosts and now - found[1] <= KEPT_S:
                return found[0]
        return None

    def keep(self, key: bytes, node_id: NodeId, now: float) -> None:
        """Remember who answered the request that `key` stands for."""
        turns = self._turns
        turns.pop(key, None)
        if len(turns) >= self._limit:
            del turns[next(iter(turns))]
        turns[key] = (node_id, now)

    def __len__(self) -> int:
        return len(self._turns)
