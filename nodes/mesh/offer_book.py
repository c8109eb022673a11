"""The living members' offers, kept as they change, with what must be known at once of all of them.

Turns published views into offers, tells when a model lost its last host anywhere, and makes snapshots.
A thousand members change one at a time: counts are kept, and a snapshot is only made when asked for.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.offers import MeshSnapshot, Offer, offer_of_member

GONE = (MemberState.DEAD, MemberState.LEFT)
"""States of those whose offers do not count."""


class OfferBook:
    """What the others offer. Changed by `take` and `clear` alone."""

    def __init__(self) -> None:
        self._offers: dict[NodeId, Offer] = {}
        self._heard: dict[NodeId, tuple[int, int, bool]] = {}
        self._hosts: Counter[ModelName] = Counter()
        self.changes = 0
        """Counts what could change a decision."""
        self.arrivals = 0
        """Counts those who came or went."""
        self._splitters: dict[NodeId, Offer] = {}
        """Those that announce a split."""
        self.touched: set[ModelName] = set()
        """Models whose group changed, or a member's memory or force in it; cleared by who reads it."""

    def take(self, views: Iterable[MemberView]) -> frozenset[ModelName]:
        """Replace these members' offers; return the models whose last living host among them is gone."""
        lost: set[ModelName] = set()
        for view in views:
            before = self._offers.get(view.node_id)
            after = self._read(view)
            if after == before:
                continue
            self.changes += 1
            self.arrivals += before is None or after is None
            self.touched |= _touched(before, after)
            lost |= self._count(before, after)
        return frozenset(lost)

    def _read(self, view: MemberView) -> Offer | None:
        if view.state in GONE:
            self._heard.pop(view.node_id, None)
            return None
        said = (view.incarnation, view.version, view.rank_last)
        known = self._offers.get(view.node_id)
        if known is not None and self._heard.get(view.node_id) == said:
            return known
        self._heard[view.node_id] = said
        return offer_of_member(view)

    def _count(self, before: Offer | None, after: Offer | None) -> set[ModelName]:
        """Put `after` in the place of `before`; return what nobody in the book hosts any more."""
        was = _live(before) if before else set()
        now = _live(after) if after else set()
        for name in now - was:
            self._hosts[name] += 1
        lost = set()
        for name in was - now:
            self._hosts[name] -= 1
            if not self._hosts[name]:
                del self._hosts[name]
                lost.add(name)
        if before is not None:
            self._splitters.pop(before.node_id, None)
        if after is not None and after.splits:
            self._splitters[after.node_id] = after
        if after is not None:
            self._offers[after.node_id] = after
        elif before is not None:
            del self._offers[before.node_id]
        return lost

    def clear(self) -> None:
        """Forget everybody: this node is in another mesh now."""
        self._offers.clear()
        self._splitters.clear()
        self._heard.clear()
        self._hosts.clear()
        self.changes += 1

    def __len__(self) -> int:
        return len(self._offers)

    def get(self, node_id: NodeId) -> Offer | None:
        """Return a member's offer; None: it is not one now."""
        return self._offers.get(node_id)

    def splitters(self) -> Iterable[Offer]:
        """Return the offers of those that announce a split."""
        return self._splitters.values()

    def hosts(self, model: ModelName) -> int:
        """Return how many others run a model, loading included."""
        return self._hosts[model]

    def snapshot(
        self,
        own: Offer,
        lost: frozenset[ModelName],
        dropped: frozenset[ModelName],
        catalogue: Mapping[ModelName, int],
    ) -> MeshSnapshot:
        """Return everybody's offer as of now."""
        return MeshSnapshot(
            own.node_id, {**self._offers, own.node_id: own}, lost, dropped, catalogue
        )


def _live(offer: Offer) -> set[ModelName]:
    return {name for name, line in offer.lines.items() if line.live}


def _touched(before: Offer | None, after: Offer | None) -> set[ModelName]:
    if before and after and _matters(before) == _matters(after):
        return set()
    return {name for o in (before, after) if o for name in (*o.lines, *o.works, *o.splits)}


def _matters(offer: Offer) -> tuple[object, ...]:
    return offer.lines, offer.works, offer.splits, offer.memory_bytes, offer.force_split
