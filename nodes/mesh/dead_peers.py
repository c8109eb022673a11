"""Whom this node holds for dead or gone, so that gossip cannot bring a ghost back.

Gossip never re-adds one of these. Direct contact (a proven handshake, either direction) and an explicit
join do. Entries expire, by when no gossip of that life is left. Source: scenarios 11 and 12.
"""

from collections import OrderedDict
from dataclasses import dataclass

from nodes.mesh import limits
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import Claim
from nodes.mesh.records import Record


@dataclass(frozen=True, slots=True)
class DeadPeer:
    """One remembered death."""

    record: Record
    """The last word of that life that is here whole: its key and addresses serve a later return."""
    at: float
    farewell: Claim | None
    """Its own last claim where it left by itself, so that it is not called back. None: it died."""

    @property
    def left(self) -> bool:
        """True: it said farewell itself."""
        return self.farewell is not None

    @property
    def order(self) -> tuple[int, int]:
        """What a word of it must exceed to be news."""
        last = self.farewell or self.record.claim
        return last.incarnation, last.version

    @property
    def incarnation(self) -> int:
        """The life that ended."""
        return self.order[0]


class DeadPeers:
    """The set, oldest first."""

    __slots__ = ("_expiry_s", "_peers")

    def __init__(self, expiry_s: float) -> None:
        self._expiry_s = expiry_s
        self._peers: OrderedDict[NodeId, DeadPeer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, node_id: NodeId) -> bool:
        return node_id in self._peers

    def add(self, record: Record, now: float, farewell: Claim | None = None) -> None:
        """Remember a death, or a leave by its farewell; at the bound the oldest is forgotten."""
        self._peers.pop(record.node_id, None)
        self._peers[record.node_id] = DeadPeer(record, now, farewell)
        if len(self._peers) > limits.DEAD_PEERS_MAX:
            self._peers.popitem(last=False)

    def get(self, node_id: NodeId) -> DeadPeer | None:
        """Return the death, or None."""
        return self._peers.get(node_id)

    def forget(self, node_id: NodeId) -> DeadPeer | None:
        """Take it back: there was direct contact, or the operator named it. Return what was held."""
        return self._peers.pop(node_id, None)

    def expire(self, now: float) -> None:
        """Drop the entries that are old enough."""
        while self._peers:
            first = next(iter(self._peers.values()))
            if now - first.at < self._expiry_s:
                return
            self._peers.popitem(last=False)

    def entries(self) -> tuple[DeadPeer, ...]:
        """Return all, oldest first."""
        return tuple(self._peers.values())
