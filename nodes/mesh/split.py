"""A split of one model over several nodes: who works, with how many layers each.

Decides the workers (near enough, of the same RPC protocol, not taken, nearest first and just enough),
their integer layer counts and the shares by memory. Knows announced offers alone; does not know
sockets, argv or the engine. The counts are of the model's blocks: llama.cpp counts the output as one
more on its last device, which whoever writes the argv adds there.
Source: spec, Election and split, Pinned 3 and 14 (a share of 0.02 gave a worker no layer at all).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nodes.mesh import limits
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.offers import WISHED, MeshSnapshot, Offer
from nodes.mesh.placement import gb
from nodes.mesh.split_seats import Seat

RTT_MAX_MS = 80.0
"""Unit: milliseconds. A worker further away than this costs more per token than its memory brings:
each token crosses the link once per worker and back (spec, Election and split)."""

RTT_UNKNOWN = "its round trip to the host is not known yet"
RTT_KNOWN_S = 1.0
"""Unit: seconds. A node that has just come is probed within this time, in a small mesh."""

TOO_FAR = f"at most {RTT_MAX_MS:.0f} ms are useful"
NEARER_S = 3.0
"""Unit: seconds until a node that was too far away is judged again. Who has just begun, or is busy,
answers its first probes late: the shortest round trip of a few tells where it is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one node, and why."""

    node_id: NodeId
    name: str
    accepted: bool
    why: str
    """``needs 18.7 GB, offers 16.0 GB``."""

    @property
    def sentence(self) -> str:
        """Return the verdict as people read it."""
        return f"{'accepted' if self.accepted else 'rejected'} {self.name}: {self.why}"


def judge_again_s(verdicts: Sequence[Verdict]) -> float | None:
    """Return after how many seconds time alone may have changed one of these; None: it will not."""
    if any(verdict.why == RTT_UNKNOWN for verdict in verdicts):
        return RTT_KNOWN_S
    return NEARER_S if any(verdict.why.endswith(TOO_FAR) for verdict in verdicts) else None


@dataclass(frozen=True, slots=True)
class SplitPlacement:
    """Who takes part, host first; `seats` holds fewer than two where no worker was found."""

    seats: tuple[Seat, ...]
    have_bytes: int
    """Memory of the host and of every worker that may be used, whether it is needed or not."""
    verdicts: tuple[Verdict, ...]

    @property
    def tensor_split(self) -> tuple[float, ...]:
        """Return the shares, host first."""
        return tuple(seat.share for seat in self.seats)

    @property
    def workers(self) -> tuple[Seat, ...]:
        """Return the seats but the host's."""
        return self.seats[1:]


@dataclass(frozen=True, slots=True)
class _Candidate:
    offer: Offer
    memory_bytes: int
    rtt_ms: float


def place_split(snapshot: MeshSnapshot, model: ModelName, host: Offer) -> SplitPlacement:
    """Return how `host` would split the model now; without seats where that is not possible."""
    file = host.on_disk.get(model)
    assert file is not None, "a split's host has the file"
    verdicts: list[Verdict] = []
    able: list[_Candidate] = []
    for offer in sorted(snapshot.offers.values(), key=lambda o: o.node_id):
        if offer.node_id == host.node_id:
            continue
        found = _judge(snapshot, offer, model, host)
        if isinstance(found, str):
            verdicts.append(Verdict(offer.node_id, offer.name, False, found))
        else:
            able.append(found)
    able.sort(key=lambda c: (c.rtt_ms, -c.memory_bytes, c.offer.node_id))
    own_bytes = host.spare_bytes(model)
    have = own_bytes + sum(c.memory_bytes for c in able)
    room = min(limits.SPLIT_WORKERS_MAX, file.layers - 1)
    missing_bytes = file.need_bytes - own_bytes
    chosen = _just_enough(_at_most(able, room, missing_bytes), missing_bytes)
    verdicts.extend(_of_the_able(able, chosen))
    if not chosen or own_bytes + sum(c.memory_bytes for c in chosen) < file.need_bytes:
        return SplitPlacement((), have, tuple(verdicts))
    return SplitPlacement(_seats(host, own_bytes, chosen, file.layers), have, tuple(verdicts))


def _judge(snapshot: MeshSnapshot, offer: Offer, model: ModelName, host: Offer) -> _Candidate | str:
    """Return the node as a candidate for a worker, or why it is none."""
    file = host.on_disk[model]
    layer_bytes = file.need_bytes // max(1, file.layers)
    if not offer.engine:
        return "it has no engine"
    if not offer.rpc_version:
        return "its engine has no rpc-server"
    if offer.rpc_version != host.rpc_version:
        return (
            f"its engine speaks RPC version {offer.rpc_version or 'unknown'}, "
            f"the host's {host.rpc_version or 'unknown'}"
        )
    if taken := other_work(snapshot, host, offer, model):
        return taken
    if held := snapshot.held_out.get(offer.node_id):
        return held
    if offer.rank_last:
        return "it is late to answer"
    rtt_ms = round_trip_ms(host, offer)
    if rtt_ms is None and host.node_id != snapshot.me:
        rtt_ms = 0.0  # The host has seen it; a third node can only hold it possible.
    if rtt_ms is None:
        return RTT_UNKNOWN
    if rtt_ms > RTT_MAX_MS:
        return f"{rtt_ms:.0f} ms away, {TOO_FAR}"
    memory = offer.spare_bytes(model)
    if memory < layer_bytes:
        return f"one layer needs {gb(layer_bytes)}, it offers {gb(memory)}"
    return _Candidate(offer, memory, rtt_ms)


def other_work(snapshot: MeshSnapshot, host: Offer, offer: Offer, model: ModelName) -> str:
    """Return what else keeps a node from working for this host; empty: nothing.

    A lesser host of the same model has no claim on it. One that waits for memory for a model of its own
    lends it to a host that ranks higher, so that of two such nodes one is served rather than neither.
    """
    for name, line in offer.lines.items():
        if name == model:
            continue
        if line.live or line.state not in WISHED:
            return f"it serves {name}"
        if _rank(offer) > _rank(host):
            return f"it waits for memory for {name} itself"
    for name in offer.splits:
        if name != model:
            return f"it hosts a split of {name}"
    for name, work in offer.works.items():
        if name != model and work.host in snapshot.offers:
            return f"it already works in a split of {name}"
    return ""


def _rank(offer: Offer) -> tuple[int, NodeId]:
    return offer.memory_bytes, offer.node_id


def seats_of(
    snapshot: MeshSnapshot, host: Offer, model: ModelName, workers: Sequence[tuple[NodeId, int]]
) -> tuple[Seat, ...]:
    """Return the seats of a split that runs, host first, as its host announces it."""
    offers = [host, *(snapshot.offers[worker] for worker, _ in workers)]
    shares = memory_shares([offer.spare_bytes(model) for offer in offers])
    layers = host.on_disk[model].layers - sum(count for _, count in workers)
    counts = [max(0, layers), *(count for _, count in workers)]
    rtts = [None, *(round_trip_ms(host, offer) for offer in offers[1:])]
    return tuple(
        Seat(o.node_id, c, s, r) for o, c, s, r in zip(offers, counts, shares, rtts, strict=True)
    )


def round_trip_ms(host: Offer, worker: Offer) -> float | None:
    """Return the round trip between two nodes as either has said; None: neither has."""
    seen = [
        found
        for found in (host.rtts_ms.get(worker.node_id), worker.rtts_ms.get(host.node_id))
        if found is not None
    ]
    return min(seen, default=None)


def _at_most(able: Sequence[_Candidate], room: int, missing_bytes: int) -> Sequence[_Candidate]:
    """Return the nearest `room` candidates; where those do not cover what is missing, the largest `room`."""
    nearest = able[: max(0, room)]
    if sum(c.memory_bytes for c in nearest) >= missing_bytes:
        return nearest
    largest = sorted(able, key=lambda c: -c.memory_bytes)[: max(0, room)]
    return [candidate for candidate in able if candidate in largest]


def _just_enough(able: Sequence[_Candidate], missing_bytes: int) -> list[_Candidate]:
    """Return the nearest that cover what is missing, at least one, and none that is not needed."""
    chosen: list[_Candidate] = []
    covered = 0
    for candidate in able:
        if chosen and covered >= missing_bytes:
            break
        chosen.append(candidate)
        covered += candidate.memory_bytes
    # A small one that was near but is not needed any more would only be one more hop for each token.
    for candidate in sorted(chosen, key=lambda c: (c.memory_bytes, -c.rtt_ms, c.offer.node_id)):
        if len(chosen) > 1 and covered - candidate.memory_bytes >= missing_bytes:
            chosen.remove(candidate)
            covered -= candidate.memory_bytes
    return chosen


def _of_the_able(able: Sequence[_Candidate], chosen: Sequence[_Candidate]) -> list[Verdict]:
    found = []
    for candidate in able:
        offer, taken = candidate.offer, candidate in chosen
        why = f"{candidate.rtt_ms:.1f} ms away, lends {gb(candidate.memory_bytes)}"
        if not taken:
            why = f"not needed ({why})"
        found.append(Verdict(offer.node_id, offer.name, taken, why))
    return found


def _seats(
    host: Offer, own_bytes: int, chosen: Sequence[_Candidate], layers: int
) -> tuple[Seat, ...]:
    memories = [own_bytes, *(c.memory_bytes for c in chosen)]
    counts = layer_counts(layers, memories)
    shares = memory_shares(memories)
    seats = [Seat(host.node_id, counts[0], shares[0], None)]
    for candidate, count, share in zip(chosen, counts[1:], shares[1:], strict=True):
        seats.append(Seat(candidate.offer.node_id, count, share, candidate.rtt_ms))
    return tuple(seats)


def layer_counts(layers: int, memories: Sequence[int]) -> tuple[int, ...]:
    """Return whole layers for each node by memory (largest remainder), at least one for each."""
    assert layers >= len(memories) > 0, "every node gets a layer"
    counts = _largest_remainder(layers, memories)
    while 0 in counts:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] = 1
    return tuple(counts)


def memory_shares(memories: Sequence[int]) -> tuple[float, ...]:
    """Return each node's share of the memory in hundredths that add up to one: ``0.67, 0.33``."""
    return tuple(part / 100 for part in _largest_remainder(100, memories))


def _largest_remainder(total: int, memories: Sequence[int]) -> list[int]:
    whole = sum(memories)
    if whole == 0:
        memories, whole = [1] * len(memories), len(memories)
    parts = [total * memory // whole for memory in memories]
    order = sorted(range(len(parts)), key=lambda i: (-(total * memories[i] % whole), i))
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts
