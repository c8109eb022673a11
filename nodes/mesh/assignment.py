"""What a node without a model of its own serves, and who takes over what nobody serves any more.

Decides, the same on every node that holds the same words: first what the mesh needs and the node has on
disk, then what it needs and could be downloaded and fits, then (for a node that just came) another copy
of the least served model on its disk; else it stands by. Nodes and models are matched as a whole, the
scarcest first and ties by rendezvous, so that two joiners do not take the same one.
Source: spec, Pinned 7.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.mesh import fit
from nodes.mesh.causes import Cause
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.offers import MeshSnapshot, Offer
from nodes.mesh.placement import gb
from nodes.mesh.rendezvous import weight


@dataclass(frozen=True, slots=True)
class Assignment:
    """A node is to serve a model."""

    model: ModelName
    """The name to resolve: a file's stem, or the wish itself where the file is still to be fetched."""
    cause: Cause
    download: bool
    text: str = field(compare=False)
    """The line for people; ``Assigned to serve <stem> (needed by mesh, already on disk)``."""


@dataclass(frozen=True, slots=True)
class _Pair:
    offer: Offer
    wish: ModelName
    model: ModelName


def matching(snapshot: MeshSnapshot) -> Mapping[NodeId, Assignment]:
    """Return what each standby is to take over of what nobody serves."""
    unserved = snapshot.unserved
    found: dict[NodeId, Assignment] = {}
    pairs = [
        _Pair(offer, wish, held)
        for wish, means in unserved.items()
        for offer in snapshot.free
        if (held := _held(offer, means)) is not None
    ]
    served: set[ModelName] = set()
    for pair in _scarcest_first(pairs):
        if pair.wish not in served and pair.offer.node_id not in found:
            served.add(pair.wish)
            found[pair.offer.node_id] = _needed(pair.model, download=False)
    fetchable = [
        _Pair(offer, wish, wish)
        for wish in unserved
        if wish not in served and wish not in snapshot.lost
        for offer in snapshot.free
        if offer.node_id not in found and _may_fetch(snapshot, offer, wish)
    ]
    for pair in _scarcest_first(fetchable):
        if pair.wish not in served and pair.offer.node_id not in found:
            served.add(pair.wish)
            found[pair.offer.node_id] = _needed(pair.model, download=True)
    return found


def _held(offer: Offer, means: tuple[ModelName, ...]) -> ModelName | None:
    return next((name for name in means if offer.can_hold(name)), None)


def _may_fetch(snapshot: MeshSnapshot, offer: Offer, wish: ModelName) -> bool:
    size = snapshot.catalogue.get(wish)
    return size is not None and round(size * fit.UNKNOWN_FACTOR) <= offer.memory_bytes


def _scarcest_first(pairs: list[_Pair]) -> list[_Pair]:
    takers = Counter(pair.wish for pair in pairs)
    choices = Counter(pair.offer.node_id for pair in pairs)
    return sorted(
        pairs,
        key=lambda p: (
            takers[p.wish],
            choices[p.offer.node_id],
            -weight(p.offer.node_id, p.model),
            p.wish,
        ),
    )


def _needed(model: ModelName, *, download: bool) -> Assignment:
    how = "to be downloaded" if download else "already on disk"
    text = f"Assigned to serve {model} (needed by mesh, {how})"
    return Assignment(model, Cause.NEEDED, download, text)


def takers(snapshot: MeshSnapshot, wish: ModelName) -> tuple[NodeId, ...]:
    """Return the standbys that could take an unserved wish over, first to go first.

    Those who have it on disk come before those who would fetch it. Where the first does not take it
    (its file is broken, it has not heard), the next one does a little later.
    """
    able = [
        (assignment.download, -weight(offer.node_id, assignment.model), offer.node_id)
        for offer in snapshot.free
        if (assignment := takes(snapshot, wish, offer)) is not None
    ]
    return tuple(node for _, _, node in sorted(able))


def takes(snapshot: MeshSnapshot, wish: ModelName, offer: Offer) -> Assignment | None:
    """Return what a node would serve for an unserved wish; None: it cannot."""
    held = _held(offer, snapshot.unserved.get(wish, ()))
    if held is not None:
        return _needed(held, download=False)
    if wish not in snapshot.lost and _may_fetch(snapshot, offer, wish):
        return _needed(wish, download=True)
    return None


def least_served(snapshot: MeshSnapshot) -> Assignment | None:
    """Return which served model this node, just come and free, is to serve another copy of; or None.

    The other free nodes are thought to choose first where their ids are lower, so that a crowd of
    joiners spreads over the models.
    """
    counts = {
        name: len(hosts) for name, hosts in snapshot.hosts.items() if name not in snapshot.dropped
    }
    for offer in snapshot.free:
        able = [name for name in counts if offer.can_hold(name)]
        if not able:
            continue
        chosen = min(able, key=lambda n: (counts[n], -weight(offer.node_id, n)))
        if offer.node_id == snapshot.me:
            copies = "1 copy" if counts[chosen] == 1 else f"{counts[chosen]} copies"
            text = f"Assigned to serve {chosen} (least served: {copies}, already on disk)"
            return Assignment(chosen, Cause.SPARE, False, text)
        counts[chosen] += 1
    return None


def standby_text(snapshot: MeshSnapshot) -> str:
    """Return why this node, free as it is, serves nothing."""
    own = snapshot.own
    unserved = snapshot.unserved
    if not unserved:
        return "Standing by: every model that the mesh wants is served."
    wish, means = next(iter(unserved.items()))
    held = next((name for name in means if name in own.on_disk), None)
    if held is not None:
        need = own.on_disk[held].need_bytes
        return (
            f"Standing by: {held} needs {gb(need)}, this node offers {gb(own.memory_bytes)}."
            if need > own.memory_bytes
            else f"Standing by: another node takes {held} over."
        )
    return f"Standing by: {wish} is wanted, but this node has not the file."
