"""Which updates ride on the next datagram: least sent first, newest first, each a limited number of times.

One subject's newer claim replaces all that was said of it. Knows nothing of what an update means. Source:
SWIM section 4.1 (piggyback, lambda log n), memberlist (transmit-limited queue).
"""

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from nodes.mesh import limits

_RAW_OVERHEAD = 2
_SMALLEST_UPDATE_BYTES = 70


@dataclass(slots=True)
class _Broadcast:
    subject: str
    encoded: bytes
    sent: int = 0


class Broadcasts:
    """Updates waiting to be spread, in buckets by how often each was sent."""

    __slots__ = ("_buckets", "_by_key", "_subjects", "limit")

    def __init__(self) -> None:
        self._by_key: dict[str, _Broadcast] = {}
        self._buckets: list[OrderedDict[str, None]] = [OrderedDict()]
        self._subjects: dict[str, set[str]] = {}
        self.limit = 4
        """Transmissions of each update; raised as the mesh grows (`GossipConfig.transmit_limit`)."""

    def __len__(self) -> int:
        return len(self._by_key)

    def put(self, subject: str, encoded: bytes, accuser: str = "") -> None:
        """Spread an update. Without an accuser it replaces everything said of the subject so far."""
        if not accuser:
            self.drop(subject)
        key = subject + accuser
        self._remove(key)
        if len(self._by_key) >= limits.BROADCASTS_MAX:
            self._evict()
        self._by_key[key] = _Broadcast(subject, encoded)
        self._subjects.setdefault(subject, set()).add(key)
        self._buckets[0][key] = None

    def drop(self, subject: str) -> None:
        """Say no more of this subject."""
        for key in tuple(self._subjects.get(subject, ())):
            self._remove(key)

    def take(self, budget_bytes: int) -> tuple[msgspec.Raw, ...]:
        """Return what fits, least sent first, and count it as sent once more."""
        if not self._by_key:
            return ()
        chosen = self._choose(budget_bytes)
        for key in chosen:
            self._count_sent(key)
        return tuple(msgspec.Raw(broadcast.encoded) for broadcast in chosen.values())

    def _choose(self, budget_bytes: int) -> dict[str, _Broadcast]:
        chosen: dict[str, _Broadcast] = {}
        for bucket in self._buckets:
            for key in reversed(bucket):
                broadcast = self._by_key[key]
                size = len(broadcast.encoded) + _RAW_OVERHEAD
                if size > budget_bytes:
                    continue
                budget_bytes -= size
                chosen[key] = broadcast
                full = len(chosen) >= limits.UPDATES_PER_DATAGRAM_MAX
                if full or budget_bytes < _SMALLEST_UPDATE_BYTES:
                    return chosen
        return chosen

    def _count_sent(self, key: str) -> None:
        broadcast = self._by_key[key]
        del self._buckets[broadcast.sent][key]
        broadcast.sent += 1
        if broadcast.sent >= self.limit:
            self._forget(key, broadcast)
            return
        if broadcast.sent == len(self._buckets):
            self._buckets.append(OrderedDict())
        self._buckets[broadcast.sent][key] = None

    def _remove(self, key: str) -> None:
        broadcast = self._by_key.get(key)
        if broadcast is not None:
            del self._buckets[broadcast.sent][key]
            self._forget(key, broadcast)

    def _forget(self, key: str, broadcast: _Broadcast) -> None:
        del self._by_key[key]
        keys = self._subjects[broadcast.subject]
        keys.discard(key)
        if not keys:
            del self._subjects[broadcast.subject]

    def _evict(self) -> None:
        for bucket in reversed(self._buckets):
            if bucket:
                self._remove(next(iter(bucket)))
                return
