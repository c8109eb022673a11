"""Which nodes host a model: alone wherever it fits, split only where it fits nowhere or somebody forces it.

Decides, from a snapshot and for one model, the same on every node that holds the same words. A node
that can hold the model is its own solo host; one that cannot, defers to those that can. Only if none
can, or a member of the model's group forces it, there is one host (most memory, tie: higher node id)
and a split. Does not know engines, clocks or settle times (`duties`). Source: spec, Election and split.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum

from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.offers import MeshSnapshot, Offer, Split
from nodes.mesh.placement import gb, waiting_text
from nodes.mesh.rendezvous import weight
from nodes.mesh.routing import ModelState
from nodes.mesh.split import (
    SplitPlacement,
    Verdict,
    other_work,
    place_split,
    seats_of,
)
from nodes.mesh.split_seats import Seat

TERM_AHEAD_MAX_S = 2**32
"""Unit: seconds that a term may be ahead of this node's clock and still be outdone: a clock that was never
set is so far behind the others. What is beyond is no time, and to outdo it could leave the range of what can
be announced."""


class Mode(StrEnum):
    """How a model is to be served."""

    SOLO = "solo"
    SPLIT = "split"
    WAIT = "wait"
    """Nobody can hold it, and those who could share it have too little together."""
    NOBODY = "nobody"
    """No node is to serve it."""


@dataclass(frozen=True, slots=True)
class Election:
    """How one model is to be served over the mesh, and why."""

    model: ModelName
    mode: Mode
    hosts: tuple[NodeId, ...]
    """SOLO: each on its own, sorted; SPLIT and WAIT: the one host (to be), if there is one."""
    text: str
    """One sentence; of WAIT: the line of Pinned 4."""
    verdicts: tuple[Verdict, ...]
    need_bytes: int = 0
    have_bytes: int = 0
    forced: bool = False
    placement: SplitPlacement | None = None
    stands: bool = False
    """True: it is the split that is announced already, which goes on as it is."""

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Return the seats of a split, host first; of anything else none."""
        return self.placement.seats if self.placement is not None else ()


def group(snapshot: MeshSnapshot, model: ModelName) -> tuple[Offer, ...]:
    """Return the nodes that are to serve the model or work for it, by id."""
    found = [
        offer
        for offer in snapshot.offers.values()
        if model in offer.works
        or (model in offer.lines and offer.lines[model].state != ModelState.DRAINING.value)
    ]
    return tuple(sorted(found, key=lambda o: o.node_id))


def elect(snapshot: MeshSnapshot, model: ModelName) -> Election:
    """Return how the model is to be served now."""
    members = group(snapshot, model)
    if not members:
        return Election(model, Mode.NOBODY, (), f"no node is to serve {model}", ())
    verdicts = tuple(_verdict(offer, model) for offer in _contenders(snapshot, model, members))
    fitting = tuple(v.node_id for v in verdicts if v.accepted)
    inside = tuple(o.node_id for o in members if o.node_id in fitting)
    forced = any(offer.force_split for offer in members)
    if not fitting or (forced and inside):
        if (kept := standing(snapshot, model)) is not None:
            return _goes_on(snapshot, model, *kept, verdicts, forced)
        election = _split(snapshot, model, members, verdicts, forced)
        if election.mode is Mode.SPLIT or not fitting:
            return election
        verdicts = election.verdicts
    if not inside:
        # A free node that has the file and the memory is about to be assigned: the others defer to it.
        inside = tuple(sorted(fitting, key=lambda n: -weight(n, model))[:1])
    return Election(model, Mode.SOLO, inside, _solo_text(snapshot, inside), verdicts, forced=forced)


def _contenders(
    snapshot: MeshSnapshot, model: ModelName, members: tuple[Offer, ...]
) -> Iterable[Offer]:
    yield from members
    yield from (offer for offer in snapshot.free if model in offer.on_disk)


def _verdict(offer: Offer, model: ModelName) -> Verdict:
    need, spare = offer.need_bytes(model), offer.spare_bytes(model)
    if offer.drained:
        return Verdict(offer.node_id, offer.name, False, "it is drained")
    if not offer.engine:
        return Verdict(offer.node_id, offer.name, False, "it has no engine")
    if need is None:
        return Verdict(offer.node_id, offer.name, False, "it does not have the file")
    why = f"needs {gb(need)}, offers {gb(spare)}"
    # What runs already is never moved because memory figures drifted.
    fits = need <= spare or offer.runs_alone(model)
    return Verdict(offer.node_id, offer.name, fits, why)


def _solo_text(snapshot: MeshSnapshot, hosts: tuple[NodeId, ...]) -> str:
    names = ", ".join(snapshot.offers[node].name for node in hosts)
    return f"it fits on {names}, each on its own" if len(hosts) > 1 else f"it fits on {names} alone"


def chief(members: Iterable[Offer], model: ModelName) -> Offer | None:
    """Return who would host a split: of those with file and engine the one with most memory.

    One whose engine failed with it for good hosts none: its workers would wait for nothing.
    """
    able = [o for o in members if o.engine and model in o.on_disk and not o.failed(model)]
    return max(able, key=lambda o: (o.spare_bytes(model), o.node_id), default=None)


def _split_host(
    snapshot: MeshSnapshot, members: tuple[Offer, ...], model: ModelName
) -> Offer | None:
    """Return who is to host a split: the chief, among engines that speak the same RPC version.

    Of several versions in the mesh, only one whose nodes have enough together gives a host, so that the
    largest machine does not keep a model waiting for nodes that others could use.
    """
    versions = {offer.rpc_version for offer in members if offer.rpc_version}
    chiefs = [chief((o for o in members if o.rpc_version == v), model) for v in versions]
    able = [host for host in chiefs if host is not None and _has_enough(snapshot, host, model)]
    return chief(able, model) or chief(members, model)


def _has_enough(snapshot: MeshSnapshot, host: Offer, model: ModelName) -> bool:
    """Return whether those that could work for `host`, near or far, have enough memory with it."""
    others = [
        offer.spare_bytes(model)
        for offer in snapshot.offers.values()
        if offer.rpc_version == host.rpc_version
        and offer.node_id != host.node_id
        and offer.engine
        and not other_work(snapshot, host, offer, model)
    ]
    have_bytes = host.spare_bytes(model) + sum(others)
    return bool(others) and have_bytes >= host.on_disk[model].need_bytes


def _split(
    snapshot: MeshSnapshot,
    model: ModelName,
    members: tuple[Offer, ...],
    verdicts: tuple[Verdict, ...],
    forced: bool,
) -> Election:
    host = _split_host(snapshot, members, model)
    if host is None:
        text = f"no node that is to serve {model} has an engine and its file"
        if any(offer.failed(model) for offer in members):
            text = f"{model} failed on every node that could host a split of it"
        return Election(model, Mode.WAIT, (), text, verdicts, forced=forced)
    placement = place_split(snapshot, model, host)
    need = host.on_disk[model].need_bytes
    everything = (*verdicts, *placement.verdicts)
    if not placement.seats:
        text = _what_is_missing(host, model, placement.have_bytes) + _left_out(snapshot)
        return Election(
            model, Mode.WAIT, (host.node_id,), text, everything, need, placement.have_bytes, forced
        )
    names = ", ".join(snapshot.offers[seat.node_id].name for seat in placement.workers)
    text = f"{_why_split(forced)}: {host.name} hosts it with {names}"
    return Election(
        model, Mode.SPLIT, (host.node_id,), text, everything, need, placement.have_bytes, forced,
        placement,
    )  # fmt: skip


def _what_is_missing(host: Offer, model: ModelName, have_bytes: int) -> str:
    file = host.on_disk[model]
    if file.layers < 2:
        layers = "it has one layer" if file.layers else "its file does not tell its layers"
        return f"{model} cannot be split ({layers}): it needs a node with {gb(file.need_bytes)}"
    if have_bytes >= file.need_bytes:
        return (
            f"Waiting for larger peers - need {gb(file.need_bytes)}, and {gb(have_bytes)} are spread over "
            f"more nodes than a split of {file.layers} layers may have"
        )
    return waiting_text(file.need_bytes, have_bytes)


def _left_out(snapshot: MeshSnapshot) -> str:
    """Name those that would lend and are not taken for now: their memory is missing above."""
    names = [snapshot.offers[n].name for n in sorted(snapshot.held_out) if n in snapshot.offers]
    return f" (left out for a time after failures: {', '.join(sorted(names))})" if names else ""


def _why_split(forced: bool) -> str:
    return "forced by --split" if forced else "no node can hold it alone"


def standing(snapshot: MeshSnapshot, model: ModelName) -> tuple[Offer, Split] | None:
    """Return the split of the model that goes on, with its host: of those that are whole the highest term.

    One that has lost a part ends, and takes none with it that works. It is not planned anew because
    memory drifted or a larger node came: only the loss of a part, or a node that can hold the model
    alone, ends it (Pinned 13).
    """
    if model in snapshot.dropped:
        return None
    found = [(o, o.splits[model]) for o in snapshot.offers.values() if model in o.splits]
    whole = [pair for pair in found if _is_whole(snapshot, model, *pair)]
    return max(whole, key=lambda pair: (pair[1].term, pair[0].node_id), default=None)


def _is_whole(snapshot: MeshSnapshot, model: ModelName, host: Offer, split: Split) -> bool:
    if host.node_id == snapshot.me and (model, split.term) in snapshot.broken:
        return False
    line = host.lines.get(model)
    if line is None or line.state == ModelState.DRAINING.value or model not in host.on_disk:
        return False
    if host.failed(model):
        return False
    workers = [snapshot.offers.get(worker) for worker, _ in split.workers]
    return bool(workers) and all(
        w is not None and not other_work(snapshot, host, w, model) for w in workers
    )


def _goes_on(
    snapshot: MeshSnapshot,
    model: ModelName,
    host: Offer,
    split: Split,
    verdicts: tuple[Verdict, ...],
    forced: bool,
) -> Election:
    """Return the election whose outcome is the split that there is."""
    seats = seats_of(snapshot, host, model, split.workers)
    offers = [snapshot.offers[seat.node_id] for seat in seats]
    have = sum(offer.spare_bytes(model) for offer in offers)
    need = host.on_disk[model].need_bytes
    names = ", ".join(offer.name for offer in offers[1:])
    text = f"{_why_split(forced)}: {host.name} hosts it with {names}"
    parts = tuple(_part_verdict(snapshot, host, model, seat) for seat in seats)
    taking_part = {seat.node_id for seat in seats}
    verdicts = (*parts, *(v for v in verdicts if v.node_id not in taking_part))
    return Election(
        model, Mode.SPLIT, (host.node_id,), text, verdicts, need, have, forced,
        SplitPlacement(seats, have, ()), stands=True,
    )  # fmt: skip


def _part_verdict(snapshot: MeshSnapshot, host: Offer, model: ModelName, seat: Seat) -> Verdict:
    name = snapshot.offers[seat.node_id].name
    layers = host.on_disk[model].layers
    part = "hosts it and computes" if seat.node_id == host.node_id else "computes"
    far = f", {seat.rtt_ms:.1f} ms away" if seat.rtt_ms is not None else ""
    return Verdict(seat.node_id, name, True, f"{part} {seat.layers} of {layers} layers{far}")


def next_term(snapshot: MeshSnapshot, model: ModelName, least: int = 1) -> int:
    """Return a term that outranks every split of the model that is known here, `least` at the least.

    One that is further ahead than any clock is no term (`TERM_AHEAD_MAX_S`).
    """
    terms = [
        offer.splits[model].term for offer in snapshot.offers.values() if model in offer.splits
    ]
    terms += [offer.works[model].term for offer in snapshot.offers.values() if model in offer.works]
    return max(max((t for t in terms if t <= least + TERM_AHEAD_MAX_S), default=0) + 1, least)


@dataclass(frozen=True, slots=True)
class Orders:
    """A host's announced split that names this node."""

    host: NodeId
    model: ModelName
    term: int
    layers: int


def orders(hosts: Iterable[Offer], me: NodeId, dropped: Set[ModelName]) -> Orders | None:
    """Return the split that node `me` is to work for: the highest term, tie: higher host id; or None.

    A term is one host's: two hosts that chose the same number in a partition are told apart by id.
    """
    found = [
        Orders(offer.node_id, model, split.term, layers)
        for offer in hosts
        for model, split in offer.splits.items()
        for worker, layers in split.workers
        if worker == me and model not in dropped
    ]
    return max(found, key=lambda o: (o.term, o.host), default=None)
