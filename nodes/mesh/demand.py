"""How busy each model is, and which one standby helps out, or goes back to standing by.

Decides by the share of slots in use, averaged with decay: it means the same on a fast engine and on a
slow one, where a rate of requests does not. Hysteresis between hot and cold, and one move at a time over
the whole mesh: every node computes the same next move, and only the one it names makes it. Knows no
clock: samples bring their time, settling is `duties`' business. Source: spec, issue 4 (demand).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from nodes.mesh.causes import Cause
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.offers import MeshSnapshot
from nodes.mesh.rendezvous import weight
from nodes.mesh.routing import ModelState

HALF_LIFE_S = 30.0
"""Unit: seconds. After so long without a sample half of what was measured is forgotten: one burst of a
few requests does not load a model somewhere, a minute of work does."""

HOT_PERCENT = 70
"""Unit: percent of the slots of all hosts. From here on the next burst would queue."""

COLD_PERCENT = 30
"""Unit: percent of the slots that would remain. Below half of `HOT_PERCENT`, so that giving a copy back
can never make the model hot again by itself."""

BUSY_STEP_PERCENT = 10
"""Unit: percent. What is announced is a multiple, and changes only by more than one step: figures that
tremble would cost a gossip version each."""

RATE_STEP = 1.5
"""Unit: factor. A rate is announced anew only when it has changed by more than this."""

BUSY_PERCENT_MAX = 1_000
"""Unit: percent. Ten requests for each slot: more says nothing new."""


class Meter:
    """The decayed load of one model on this node's engine."""

    def __init__(self, now: float) -> None:
        self._at_s = now
        self._busy = 0.0
        self._per_s = 0.0
        self._latest = (0.0, 0.0)
        self._said = (0, 0)

    def sampled(self, in_flight: int, slots: int, requests_per_s: float, now: float) -> None:
        """Take a sample; the one before held until now."""
        self._advance(now)
        self._latest = (in_flight / max(1, slots), requests_per_s)

    def figures(self, now: float) -> tuple[int, int]:
        """Return (requests a minute, percent of slots busy), coarse: what is to be announced."""
        self._advance(now)
        self._said = (_rate(self._per_s * 60, self._said[0]), _busy(self._busy, self._said[1]))
        return self._said

    def _advance(self, now: float) -> None:
        kept = 0.5 ** (max(0.0, now - self._at_s) / HALF_LIFE_S)
        self._at_s = now
        self._busy = self._busy * kept + self._latest[0] * (1 - kept)
        self._per_s = self._per_s * kept + self._latest[1] * (1 - kept)


def _rate(per_minute: float, said: int) -> int:
    if per_minute < 0.5:
        return 0
    if said and said / RATE_STEP <= per_minute <= said * RATE_STEP:
        return said
    return max(1, round(per_minute))


def _busy(share: float, said: int) -> int:
    percent = min(BUSY_PERCENT_MAX, share * 100)
    if abs(percent - said) <= BUSY_STEP_PERCENT:
        return 0 if percent < BUSY_STEP_PERCENT / 2 else said
    return round(percent / BUSY_STEP_PERCENT) * BUSY_STEP_PERCENT


@dataclass(frozen=True, slots=True)
class Demand:
    """How busy one model is over all its hosts."""

    slots: int
    busy_slots: float
    requests_per_minute: int

    @property
    def percent(self) -> float:
        """Return the share of slots in use, percent."""
        return 100 * self.busy_slots / self.slots if self.slots else 0.0


def demand(snapshot: MeshSnapshot) -> Mapping[ModelName, Demand]:
    """Return how busy each model is that has at least one ready host."""
    slots: dict[ModelName, int] = {}
    busy: dict[ModelName, float] = {}
    rates: dict[ModelName, int] = {}
    for offer in snapshot.offers.values():
        for name, line in offer.lines.items():
            if line.state != ModelState.READY.value:
                continue
            rate = offer.rates.get(name)
            slots[name] = slots.get(name, 0) + line.slots
            busy[name] = busy.get(name, 0.0) + line.slots * (rate.busy_percent if rate else 0) / 100
            rates[name] = rates.get(name, 0) + (rate.requests_per_minute if rate else 0)
    return {name: Demand(slots[name], busy[name], rates[name]) for name in slots}


class MoveKind(StrEnum):
    """What a move does."""

    PROMOTE = "promote"
    GIVE_BACK = "give_back"


@dataclass(frozen=True, slots=True)
class Move:
    """The one thing that changes next because of demand."""

    kind: MoveKind
    node_id: NodeId
    model: ModelName
    text: str


def next_move(snapshot: MeshSnapshot) -> Move | None:
    """Return the next move over the whole mesh: the hottest model first, then who is no longer needed."""
    found = demand(snapshot)
    hottest = sorted(found, key=lambda name: (-found[name].percent, name))
    for name in hottest:
        if found[name].percent < HOT_PERCENT:
            break
        if name not in snapshot.dropped and not _loading(snapshot, name):
            able = [o.node_id for o in snapshot.free if o.can_hold(name) and not o.rank_last]
            if able:
                return _promotion(name, max(able, key=lambda n: weight(n, name)), found[name])
    givers = [
        (name, offer.node_id)
        for offer in snapshot.offers.values()
        for name, line in offer.lines.items()
        if line.cause == Cause.DEMAND.value
        and line.state == ModelState.READY.value
        and _cold_without(found[name], line.slots)
    ]
    if not givers:
        return None
    model, node_id = min(
        givers, key=lambda pair: (found[pair[0]].percent, weight(pair[1], pair[0]))
    )
    text = f"{model} is quiet again: this node gives its copy back and stands by."
    return Move(MoveKind.GIVE_BACK, node_id, model, text)


def _promotion(model: ModelName, node_id: NodeId, load: Demand) -> Move:
    text = f"Assigned to serve {model} (busy: {load.percent:.0f} % of its slots, already on disk)"
    return Move(MoveKind.PROMOTE, node_id, model, text)


def _loading(snapshot: MeshSnapshot, model: ModelName) -> bool:
    """Return whether help is on its way already."""
    states = (
        offer.lines[model].state for offer in snapshot.offers.values() if model in offer.lines
    )
    return ModelState.LOADING.value in states


def _cold_without(load: Demand, slots: int) -> bool:
    """Return whether the others would hardly be busy without this copy."""
    rest = load.slots - slots
    return rest > 0 and 100 * load.busy_slots / rest <= COLD_PERCENT
