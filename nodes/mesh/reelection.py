"""Elections of the models that this node is to serve, held again whenever their group changed.

Decides nothing that `election` does not: compares its outcome with the one before, after the settle
time, and says what came of it. The same outcome: `still host, no restart needed`, after the decision
and with nothing restarted (Pinned 13). Another: a new term, with its reasons kept.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nodes.mesh.effects import Ballot, Effect, RecordEvent
from nodes.mesh.election import Election, Mode, elect
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.offer_book import OfferBook
from nodes.mesh.offers import MeshSnapshot, Offer
from nodes.mesh.reasons import Reasons
from nodes.mesh.serving import Serving
from nodes.mesh.settle import SETTLE_S
from nodes.mesh.split import judge_again_s
from nodes.mesh.split_host import SplitHost

STILL_HOST_EVERY_S = 10.0
"""Unit: seconds. Where members come and go all the time, a host says so often at most that it stays."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    mode: Mode
    hosting: bool
    text: str
    """Of a model that waits or is left to another node; else empty: it is no part of the outcome."""
    workers: tuple[NodeId, ...] = ()
    """Of a split."""
    may_grow: bool = False
    """It is to be split and nobody can work for it yet: whoever comes may."""


class Reelection:
    """The latest outcome of each model. Changed by `look` alone."""

    def __init__(
        self, me: NodeId, serving: Serving, reasons: Reasons, split_host: SplitHost
    ) -> None:
        self._me = me
        self._serving = serving
        self._reasons = reasons
        self._split_host = split_host
        self._elections: dict[ModelName, Election] = {}
        self._hasty: set[ModelName] = set()
        """Elections that were due at once: a split that they want waits for the settle time."""
        self._by_time: set[ModelName] = set()
        """Elections that are held again though nothing changed: nobody is told that nothing came of it."""
        self._outcomes: dict[ModelName, _Outcome] = {}
        self._due_s: dict[ModelName, float] = {}
        self._itself: dict[ModelName, tuple[str, bool, bool]] = {}
        """This node's engine, whether it could serve the model alone and whether it gave it up, at the
        latest look."""
        self._told_s: dict[ModelName, float] = {}
        self._seen = (0, 0)

    @property
    def deadline(self) -> float | None:
        """When the next election is due; None: none is."""
        return min(self._due_s.values(), default=None)

    def hurry(self, name: ModelName, at_s: float) -> None:
        """Hold a model's election then and act on it: a part of what served it is gone."""
        self._due_s[name] = at_s
        self._hasty.discard(name)
        self._by_time.discard(name)

    def latest(self, name: ModelName) -> Election | None:
        """Return the outcome of a model's latest election."""
        return self._elections.get(name)

    def look(
        self, book: OfferBook, own: Offer, snapshot: Callable[[float], MeshSnapshot], now: float
    ) -> Iterator[Effect]:
        """Note what changed, and hold the elections that are due."""
        mine = [name for name in self._serving.causes if name in own.lines]
        for name in (self._outcomes.keys() | self._due_s.keys()).difference(mine):
            self._forget(name)
        self._note_changes(book, own, mine, now)
        due = [name for name in mine if self._due_s.get(name, math.inf) <= now]
        if due:
            seen = snapshot(now)
            for name in due:
                self._due_s.pop(name)
                yield from self._take(elect(seen, name), seen, now)

    def _forget(self, name: ModelName) -> None:
        self._outcomes.pop(name, None)
        self._due_s.pop(name, None)
        self._told_s.pop(name, None)
        self._itself.pop(name, None)
        self._elections.pop(name, None)
        self._hasty.discard(name)
        self._by_time.discard(name)

    def _note_changes(self, book: OfferBook, own: Offer, mine: list[ModelName], now: float) -> None:
        touched, book.touched = book.touched, set()
        changes, arrivals = self._seen
        self._seen = (book.changes, book.arrivals)
        for name in mine:
            outcome = self._outcomes.get(name)
            itself = (own.engine, own.can_hold(name), own.failed(name))
            if outcome is None or self._itself.get(name) != itself:
                # What this node knows of itself need not settle.
                self._itself[name] = itself
                self._due_s[name] = now
                self._hasty.add(name)
            elif (
                name in touched
                or (book.arrivals != arrivals and self._may_tell(name, now))
                or (book.changes != changes and (outcome.may_grow or not outcome.hosting))
            ):
                self._due_s.setdefault(name, now + SETTLE_S)
                self._hasty.discard(name)
                self._by_time.discard(name)

    def _may_tell(self, name: ModelName, now: float) -> bool:
        return now - self._told_s.get(name, -math.inf) >= STILL_HOST_EVERY_S

    def _take(self, election: Election, seen: MeshSnapshot, now: float) -> Iterator[Effect]:
        name = election.model
        hasty, by_time = name in self._hasty, name in self._by_time
        self._hasty.discard(name)
        self._by_time.discard(name)
        if hasty and election.mode is Mode.SPLIT and not election.stands:
            self._due_s[name] = now + SETTLE_S
            return
        self._elections[name] = election
        self._again(election, now)
        least_term = int(self._reasons.now_unix_s)
        yield from self._split_host.elected(election, seen, now, least_term)
        before = self._outcomes.get(name)
        outcome = self._outcome(election)
        self._outcomes[name] = outcome
        if outcome == before:
            slot = self._serving.slots.get(name)
            # A split that is planned anew restarts the engine, though host and workers are the same.
            goes_on = election.stands or election.mode is not Mode.SPLIT
            running = slot is not None and slot.run is not None and goes_on
            if outcome.hosting and running and not by_time and self._may_tell(name, now):
                self._told_s[name] = now
                text = f"{name}: still host, no restart needed"
                yield RecordEvent("still_host", text, model=name)
            return
        self._reasons.note_election(election, outcome.hosting)
        if election.mode in (Mode.SOLO, Mode.SPLIT):
            ballot = Ballot(self._reasons.about(name)[0].term, election.hosts[0], outcome.workers)
            text = f"{name} was elected: {election.text}."
            yield RecordEvent("election", text, model=name, ballot=ballot)
        yield from self._explain(election, outcome, seen)

    def _outcome(self, election: Election) -> _Outcome:
        hosting = election.mode in (Mode.SOLO, Mode.SPLIT) and self._me in election.hosts
        waits = election.mode is Mode.WAIT or (election.mode is Mode.SOLO and not hosting)
        workers = tuple(seat.node_id for seat in election.seats[1:])
        grows = election.forced and election.mode is Mode.SOLO
        return _Outcome(election.mode, hosting, election.text if waits else "", workers, grows)

    def _again(self, election: Election, now: float) -> None:
        """Ask again where time alone may bring another outcome."""
        if election.mode is Mode.SPLIT or not (election.mode is Mode.WAIT or election.forced):
            return
        release_s = self._split_host.faults.next_release_s(now)
        again_s = judge_again_s(election.verdicts)
        waits = [at for at in (release_s, again_s and now + again_s) if at]
        if waits and election.model not in self._due_s:
            self._due_s[election.model] = min(waits)
            self._by_time.add(election.model)

    def _explain(
        self, election: Election, outcome: _Outcome, seen: MeshSnapshot
    ) -> Iterator[Effect]:
        """Let a model that waits say what the whole mesh lacks, or whom it is left to."""
        name = election.model
        if not outcome.text or not seen.own.engine:
            self._serving.explained.pop(name, None)
            return
        text = outcome.text
        if election.mode is Mode.SOLO:
            verdict = next((v.why for v in election.verdicts if v.node_id == self._me), "")
            hosts = ", ".join(seen.offers[node].name for node in election.hosts)
            text = f"Left to {hosts}: this node {verdict}" if verdict else f"Left to {hosts}"
        if self._serving.explain(name, text):
            yield RecordEvent("model_waits", f"{name}: {text}", "warning", name)
