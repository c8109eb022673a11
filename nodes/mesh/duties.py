"""What the mesh makes of this node: from everybody's offers to what `serving` is to serve.

Keeps the offers of the others, the tombstones and the memory of `standby`; looks at all of it when it
changed or when something is due, lets an outcome settle, then acts on it: takes a model up, gives one
back, explains why one waits, says that nothing changes for a host. Knows no sockets and no engines.

Rules:
- What the operator of this node asked for is never taken away by the mesh, but by a tombstone.
- An outcome acts only after it has stood for its settle time; the same outcome again does nothing.
- What a split needs of this node (`split_host`, `split_worker`) is looked at before anything else.
- A host whose re-election changes nothing says so afterwards and restarts nothing (Pinned 13).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from nodes.mesh import events as ev
from nodes.mesh.announcement import Announcement, RateLine
from nodes.mesh.causes import Cause
from nodes.mesh.demand import Meter
from nodes.mesh.effects import Effect, RecordEvent, ResolveModel
from nodes.mesh.election import elect
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.offer_book import OfferBook
from nodes.mesh.offers import MeshSnapshot, Offer, offer_of
from nodes.mesh.own_facts import MeshWords
from nodes.mesh.plans import WorkerPlan
from nodes.mesh.reasons import Reasons, why
from nodes.mesh.reelection import Reelection
from nodes.mesh.serving import Serving
from nodes.mesh.settle import Settle
from nodes.mesh.splits import Splits
from nodes.mesh.standby import GiveBack, Outcome, StandBy, Standby, TakeUp, without
from nodes.mesh.tombstones import Tombstones

LOOK_COST_S = 0.0005
"""Unit: seconds per member. A look at everybody costs about so much; looks are that far apart, so that
a thousand nodes that change all the time take no more than a part of one CPU here."""

JUST_JOINED_S = 5.0
"""Unit: seconds after the first other node was seen. What was dropped before is told within them."""

CLOCK_SLACK_S = 1.0
"""Unit: seconds by which a drop's own time may be later than a node's coming and still count as before it:
nodes know the time to the second."""

RATES_EVERY_S = 10.0
"""Unit: seconds between two announcements of how busy the engines are."""


class Duties:
    """This node's part in the mesh. Changed by its methods alone, from `MeshNode.handle`."""

    def __init__(self, me: NodeId, serving: Serving) -> None:
        self.book = OfferBook()
        self.tombstones = Tombstones()
        self.reasons = Reasons()
        self.words = MeshWords()
        self._me = me
        self._serving = serving
        self._standby = Standby()
        self._settle: Settle[Outcome] = Settle()
        self._splits = Splits(me, serving, self.reasons)
        self._reelection = Reelection(me, serving, self.reasons, self._splits.host)
        self._catalogue: dict[ModelName, int] = {}
        self._meters: dict[ModelName, Meter] = {}
        self._disk_known = self._standing_by = False
        self._disk: tuple[ModelFacts, ...] = ()
        self._joins = False
        self._met_s: float | None = None
        self._own = Offer(me, "", 0, "", "")
        self._said: Announcement | None = None
        self._dirty = False
        self._looked_s = -math.inf
        self._rates_due_s = math.inf

    # --- what comes in ---------------------------------------------------------------------------

    def members_changed(self, views: Iterable[MemberView], now: float) -> None:
        """Take the views that gossip published."""
        before = self.book.changes
        views = tuple(views)
        lost = self.book.take(views)
        self._standby.lose(lost, now)
        if any(view.state in (MemberState.DEAD, MemberState.LEFT) for view in views):
            for name in lost.intersection(self._serving.causes):
                self._reelection.hurry(name, now)
        self._splits.members_changed(views)
        if self._met_s is None and len(self.book):
            self._met_s = now
        self._dirty |= self.book.changes != before

    def left_mesh(self) -> None:
        """Forget the others: this node is in another mesh now."""
        self.book.clear()
        self._splits.left_mesh()
        self._met_s = None
        self._joins = False
        self._dirty = True

    def joins(self) -> None:
        """Note that this node goes to others, rather than they to it."""
        self._joins = True

    def dropped_before_joining(self, version: int, unix_ms: int, now: float) -> bool:
        """Return whether a drop that is heard of now was said before this node came among others.

        A version is the time at which it was said, in Unix milliseconds; `unix_ms` is `now` as such.
        """
        if not self._joins or self._met_s is None:
            return self._joins
        here_s = now - self._met_s
        came_ms = unix_ms - here_s * 1000
        return here_s < JUST_JOINED_S and version <= came_ms + CLOCK_SLACK_S * 1000

    def take(self, event: ev.Event, now: float) -> Iterator[Effect]:
        """Take what the shell tells of this node, its engines and its rpc-servers."""
        match event:
            case ev.WorkerReady() | ev.WorkerExited():
                yield from self._splits.worker_report(event)
            case ev.LaneSampled(lines):
                self._splits.lane = lines
                return
            case ev.ServerExited():
                self._splits.engine_exited(event, self._reelection, now)
            case ev.CatalogueKnown(sizes):
                self._catalogue = dict(sizes)
            case ev.DiskScanned(models):
                self._disk_known = True
                self._disk = models
            case ev.ModelRefused(name, _, for_mesh) if for_mesh:
                self._standby.spoil(name, now)
            case ev.ServerLoadSampled():
                self._sampled(event, now)
                return
            case _:
                return
        self._dirty = True

    def _sampled(self, event: ev.ServerLoadSampled, now: float) -> None:
        slot = self._serving.slots.get(event.model)
        if slot is None or slot.run is None:
            return
        ready = slot.run.ready
        if event.in_flight == 1:
            slot.note_speed(event.tokens_per_s)
        meter = self._meters.setdefault(event.model, Meter(now))
        slots = ready.slots if ready else slot.run.plan.parallel
        meter.sampled(event.in_flight, slots, event.requests_per_s, now)
        self._rates_due_s = min(self._rates_due_s, now + RATES_EVERY_S)

    def noticed(self, topic: str, version: int, body: bytes) -> ModelName | None:
        """Take an accepted notice; return the model that is to be dropped because of it, else None."""
        model = self.tombstones.take(topic, version, body)
        if model is None:
            return None
        self._dirty = True
        return model if self.tombstones.is_dropped(model) else None

    # --- what is due -----------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When to look again; None: only when something changes."""
        waits = [self._settle.deadline, self._standby.deadline, self._reelection.deadline]
        waits += [self._rates_due_s, self._splits.deadline]
        if self._dirty:
            waits.append(self._next_look_s)
        earliest = min((w for w in waits if w is not None), default=math.inf)
        return None if earliest == math.inf else max(earliest, self._next_look_s)

    @property
    def _next_look_s(self) -> float:
        return self._looked_s + len(self.book) * LOOK_COST_S

    def decide(self, said: Announcement, now: float) -> Iterator[Effect]:
        """Look at everything as it is now; `said` is this node's own announcement."""
        if said != self._said:
            self._said, self._dirty = said, True
            self._own = offer_of(self._me, said)
        due_s = self.deadline
        if due_s is None or now < due_s:
            return
        self._looked_s, self._dirty = now, False
        if now >= self._rates_due_s:
            self._tell_rates(now)
        yield from self._after_failures(now)
        dropped = self.tombstones.dropped
        yield from self._splits.look(self.book, self._reelection, dropped, now)
        yield from self._next_move(now)
        yield from self._reelection.look(self.book, self._own, self.snapshot, now)
        yield from self._splits.act(self._reelection, self._disk, now)
        words = self._splits.words(
            MeshWords(self.words.rates, self._standby.spoiled(now), self.tombstones.dropped)
        )
        self._dirty |= words != self.words
        self.words = words

    def snapshot(self, now: float) -> MeshSnapshot:
        """Return everybody's offer, this node's own included."""
        made = self.book.snapshot(
            self._splits.own(self._own),
            self._standby.lost(now),
            self.tombstones.dropped,
            self._catalogue,
        )
        return without(self._splits.seen(made, now), self._standby.spoiled(now))

    def lends(self, model: ModelName) -> bool:
        """Return whether this node works for another host's split of the model."""
        return self._splits.worker.model == model

    @property
    def works_for(self) -> WorkerPlan | None:
        """Return what this node lends to another host's split; None: nothing."""
        return self._splits.worker.plan

    @property
    def lane(self) -> tuple[ev.LaneLine, ...]:
        """Return what passes between this node and others for the sake of splits."""
        return self._splits.lane

    @property
    def looked_s(self) -> float:
        """When everybody was looked at last; nothing is decided anew before it changes."""
        return self._looked_s

    def why(self, model: ModelName, now: float) -> dict[str, Any]:
        """Return why a model is served as it is (`reasons.why`)."""
        snapshot = self.snapshot(now)
        return why(self.reasons, snapshot, elect(snapshot, model))

    def _tell_rates(self, now: float) -> None:
        running = {name for name, slot in self._serving.slots.items() if slot.run is not None}
        for name in self._meters.keys() - running:
            del self._meters[name]
        figures = {name: meter.figures(now) for name, meter in self._meters.items()}
        rates = tuple(RateLine(name, *both) for name, both in sorted(figures.items()) if any(both))
        self.words = replace(self.words, rates=rates)
        self._rates_due_s = now + RATES_EVERY_S if self._meters else math.inf

    def _after_failures(self, now: float) -> Iterator[Effect]:
        """Give back what the mesh asked for and this node turns out to be unable to serve."""
        serving = self._serving
        for name, cause in tuple(serving.causes.items()):
            slot = serving.slots.get(name)
            failed = (slot is not None and slot.gave_up) or name in serving.unplaced
            if cause is not Cause.OWN and failed:
                self._standby.spoil(name, now)
                yield RecordEvent(
                    "given_back", f"{name} could not be served here after all.", "warning", name
                )
                yield from serving.give_back(name)

    def _next_move(self, now: float) -> Iterator[Effect]:
        ready = self._disk_known and self._met_s is not None and not self._serving.stopping
        if self._splits.worker.model is not None:
            ready = False  # Its memory is lent.
        if not ready or not (self._own.free or _mesh_disposes(self._own)):
            self._settle.clear()
            self._standby.rest()
            return
        outcome, wait_s = self._standby.outcome(self.snapshot(now), now)
        if isinstance(outcome, StandBy) and self._standing_by:
            outcome = None
        settled = self._settle.see(outcome, now, wait_s)
        if settled is not None:
            self._settle.clear()
            self._standby.newcomer = False
            yield from self._act(settled)

    def _act(self, outcome: Outcome) -> Iterator[Effect]:
        serving = self._serving
        self._standing_by = isinstance(outcome, StandBy)
        match outcome:
            case TakeUp(assignment):
                model = assignment.model
                self.reasons.note(model, "assigned", assignment.text)
                yield RecordEvent("assigned", assignment.text, model=model)
                serving.expect(model, assignment.cause)
                yield ResolveModel(model, assignment.download)
            case GiveBack(model, text):
                self.reasons.note(model, "given_back", text)
                yield RecordEvent("given_back", text, model=model)
                yield from serving.give_back(model)
            case StandBy(text):
                yield RecordEvent("standby", text)


def _mesh_disposes(own: Offer) -> bool:
    """Return whether the node serves something that the mesh may take back."""
    kept = (Cause.NEEDED.value, Cause.DEMAND.value)
    return any(line.live and line.cause in kept for line in own.lines.values())
