"""What a node that the mesh disposes of is to do next: take a model up, give one back, or stand by.

Decides for this node from a snapshot and from what it alone remembers: what lost its last host, since
when a wish has been unserved, what it tried in vain. Knows no engine; `duties` settles and acts.
Source: spec, Pinned 7 and issue 4 (standby, demand).
"""

from collections.abc import Set
from dataclasses import dataclass, field, replace

from nodes.mesh import assignment
from nodes.mesh.assignment import Assignment
from nodes.mesh.causes import Cause
from nodes.mesh.demand import MoveKind, next_move
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.offers import Line, MeshSnapshot
from nodes.mesh.rendezvous import weight
from nodes.mesh.routing import ModelState
from nodes.mesh.settle import SETTLE_S

RANK_STEP_S = 2.0
"""Unit: seconds. Where the first in order does not take an unserved model, the next one does so much
later: with the settle time the second one still acts within the 5 s of the specification."""

COLD_FOR_S = 120.0
"""Unit: seconds a copy must be superfluous before it is given back: loading it again costs more."""

LOST_FOR_S = 3_600.0
"""Unit: seconds. A model that nobody could take over for so long is forgotten."""

LOST_MAX = 64
"""Lost models that are remembered; the oldest goes first."""

SPOILED_FOR_S = 300.0
"""Unit: seconds. A model that this node could not serve is not tried again for so long."""

SPOILED_MAX = 64
"""Models tried in vain that are remembered; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class TakeUp:
    """Serve this from now on."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Serve this no longer and stand by."""

    model: ModelName
    text: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class StandBy:
    """There is nothing to do: say so once."""

    text: str = field(compare=False)


Outcome = TakeUp | GiveBack | StandBy


class Standby:
    """The memory behind this node's next move."""

    def __init__(self) -> None:
        self._lost: dict[ModelName, float] = {}
        self._since_s: dict[ModelName, float] = {}
        self._spoiled: dict[ModelName, float] = {}
        self.newcomer = True
        """It has not yet made its first choice: only then does it take up another copy."""
        self._next_rank_s: float | None = None

    # --- what it remembers -----------------------------------------------------------------------

    def lose(self, models: frozenset[ModelName], now: float) -> None:
        """Remember that these have lost their last host."""
        for name in sorted(models):
            self._lost.pop(name, None)
            self._lost[name] = now
        while len(self._lost) > LOST_MAX:
            del self._lost[next(iter(self._lost))]

    def lost(self, now: float) -> frozenset[ModelName]:
        """Return what nobody hosts any more, for all that is known here."""
        for name in [n for n, since_s in self._lost.items() if now - since_s > LOST_FOR_S]:
            del self._lost[name]
        return frozenset(self._lost)

    def found(self, snapshot: MeshSnapshot) -> None:
        """Forget what somebody hosts again, or what was dropped."""
        for name in snapshot.lost & (snapshot.provided | snapshot.dropped):
            self._lost.pop(name, None)

    def spoil(self, model: ModelName, now: float) -> None:
        """Remember that this node tried to serve a model and could not."""
        self._spoiled.pop(model, None)
        self._spoiled[model] = now
        while len(self._spoiled) > SPOILED_MAX:
            del self._spoiled[next(iter(self._spoiled))]

    def spoiled(self, now: float) -> frozenset[ModelName]:
        """Return what this node does not offer to serve for now."""
        return frozenset(n for n, at_s in self._spoiled.items() if now - at_s < SPOILED_FOR_S)

    # --- what it decides -------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When it is this node's turn for what others have left lying; None: it is nobody's."""
        return self._next_rank_s

    def rest(self) -> None:
        """Wait for nobody's turn: this node is not free now."""
        self._next_rank_s = None

    def outcome(self, snapshot: MeshSnapshot, now: float) -> tuple[Outcome | None, float]:
        """Return what to do next, and for how many seconds that must stand."""
        self.found(snapshot)
        self._next_rank_s = None
        own = snapshot.own
        if not own.free:
            return self._to_give_back(snapshot)
        self._note_unserved(snapshot, now)
        matched = assignment.matching(snapshot)
        taken = matched.get(own.node_id) or self._my_turn(snapshot, matched.keys(), now)
        # A second copy would take the memory that a model too big for one machine waits for.
        if taken is None and self.newcomer and not snapshot.short_of_memory:
            taken = assignment.least_served(snapshot)
        if taken is None:
            move = next_move(snapshot)
            if move is not None and move.node_id == own.node_id:
                taken = Assignment(move.model, Cause.DEMAND, False, move.text)
        if taken is not None:
            return TakeUp(taken), SETTLE_S
        return StandBy(assignment.standby_text(snapshot)), SETTLE_S

    def _note_unserved(self, snapshot: MeshSnapshot, now: float) -> None:
        since = self._since_s
        self._since_s = {wish: since.get(wish, now) for wish in snapshot.unserved}

    def _my_turn(
        self, snapshot: MeshSnapshot, matched: Set[NodeId], now: float
    ) -> Assignment | None:
        """Return what the one it fell to, and those before this node, have not taken up in their time."""
        for wish, since_s in self._since_s.items():
            mine = assignment.takes(snapshot, wish, snapshot.own)
            if mine is None:
                continue
            others = [n for n in assignment.takers(snapshot, wish) if n not in matched]
            due_s = since_s + (1 + others.index(snapshot.me)) * RANK_STEP_S
            if due_s <= now:
                return mine
            if self._next_rank_s is None or due_s < self._next_rank_s:
                self._next_rank_s = due_s
        return None

    def _to_give_back(self, snapshot: MeshSnapshot) -> tuple[Outcome | None, float]:
        for name, line in snapshot.own.lines.items():
            if line.live and line.cause == Cause.NEEDED.value and outranked(snapshot, name):
                text = f"{name} is served by another node too: this one stands by again."
                return GiveBack(name, text), SETTLE_S
        if not any(line.cause == Cause.DEMAND.value for line in snapshot.own.lines.values()):
            return None, SETTLE_S
        move = next_move(snapshot)
        if move is None or move.kind is not MoveKind.GIVE_BACK or move.node_id != snapshot.me:
            return None, SETTLE_S
        return GiveBack(move.model, move.text), COLD_FOR_S


def outranked(snapshot: MeshSnapshot, model: ModelName) -> bool:
    """Return whether another node took the same model up for the same need and is to keep it.

    The one that answers already keeps it; among equals the one that comes first in its order.
    """
    mine = _claim(snapshot.own.lines[model], weight(snapshot.me, model))
    return any(
        _claim(line, weight(offer.node_id, model)) > mine
        for offer in snapshot.offers.values()
        if offer.node_id != snapshot.me and not offer.rank_last
        and (line := offer.lines.get(model)) is not None
        and line.live and line.cause == Cause.NEEDED.value
    )  # fmt: skip


def _claim(line: Line, rank: int) -> tuple[bool, int]:
    return line.state == ModelState.READY.value, rank


def without(snapshot: MeshSnapshot, spoiled: frozenset[ModelName]) -> MeshSnapshot:
    """Return the snapshot with nothing to download that this node failed to fetch."""
    if not spoiled & snapshot.catalogue.keys():
        return snapshot
    kept = {n: size for n, size in snapshot.catalogue.items() if n not in spoiled}
    return replace(snapshot, catalogue=kept)
