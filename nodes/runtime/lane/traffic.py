"""How much goes to and from each peer, by lane, and how fast now. Pure: times are handed in."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from nodes.mesh.ids import NodeId
from nodes.runtime.lane.channel import Channel, Via

PEERS_MAX = 1024
"""Peers whose totals are kept; at the bound the one that was silent longest is forgotten."""


@dataclass(slots=True)
class Totals:
    """Content bytes since the start, without encryption, and the rates of the last interval."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_bytes_per_s: float = 0.0
    received_bytes_per_s: float = 0.0
    peak_bytes_per_s: float = 0.0
    """The fastest interval so far, both directions together."""


@dataclass(slots=True)
class Traffic:
    """Totals by peer and lane."""

    since_s: float
    """When the interval under way began."""
    _totals: dict[tuple[NodeId, Via], Totals] = field(default_factory=dict)
    _counted: dict[Channel, tuple[int, int]] = field(default_factory=dict)
    """What of a living connection is in the totals already."""
    _fresh: dict[tuple[NodeId, Via], list[int]] = field(default_factory=dict)

    def count(self, channel: Channel, *, closed: bool = False) -> None:
        """Add what a connection carried since it was last counted."""
        if channel.wire.session is not None and channel.wire.session.peer is None:
            return
        sent, received = channel.wire.sent_bytes, channel.wire.received_bytes
        sent_before, received_before = self._counted.pop(channel, (0, 0))
        if not closed:
            self._counted[channel] = (sent, received)
        key = (channel.peer_id, channel.via)
        fresh = self._fresh.setdefault(key, [0, 0])
        fresh[0] += sent - sent_before
        fresh[1] += received - received_before

    def tick(self, channels: Iterable[Channel], now_s: float) -> None:
        """Close an interval: count all living connections and set the rates."""
        for channel in channels:
            self.count(channel)
        elapsed_s, self.since_s = now_s - self.since_s, now_s
        for totals in self._totals.values():
            totals.sent_bytes_per_s = totals.received_bytes_per_s = 0.0
        for key, (sent, received) in self._fresh.items():
            if not sent and not received:
                continue
            totals = self._totals.get(key) or Totals()
            self._totals.pop(key, totals)
            self._totals[key] = totals  # last: who is silent longest is first
            totals.sent_bytes += sent
            totals.received_bytes += received
            if elapsed_s > 0:
                totals.sent_bytes_per_s = sent / elapsed_s
                totals.received_bytes_per_s = received / elapsed_s
                rate = (sent + received) / elapsed_s
                totals.peak_bytes_per_s = max(totals.peak_bytes_per_s, rate)
        self._fresh.clear()
        while len(self._totals) > PEERS_MAX:
            del self._totals[next(iter(self._totals))]

    def of(self, peer: NodeId, via: Via) -> Totals:
        """Return the totals up to the last interval."""
        return self._totals.get((peer, via)) or Totals()

    def peers(self) -> set[NodeId]:
        """Return every peer with totals."""
        return {peer for peer, _ in self._totals}
