"""The serving half of a node: from wishes, memory and engine reports to starts and stops.

Rules:
- One engine a model; a model is started when it is wanted, placed, and an engine is there.
- A start happens only if the desired set or the actual run changed: samples never restart anything.
- A dropped model's wish is gone until somebody asks for it again.
- What the mesh asked for gives way to what the operator asks for, and goes back without a word of leaving.
- A directive of the mesh (left to others, spread over workers) comes before this node's own placement.
- After `stop` nothing starts any more. Once no answer is open the others are told; when the last run has
  ended too, the node exits.
- While drained nothing runs or starts; the operator's own wishes are kept until it is undrained.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from nodes.mesh import events as ev
from nodes.mesh.causes import Cause
from nodes.mesh.directives import RETIRE, Directive, Gather, Left, Spread, contradicts
from nodes.mesh.effects import Effect, LeaveAndExit, RecordEvent, StartServer, StopServer
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.launching import server_plan
from nodes.mesh.placement import (
    NotPlaced,
    Placed,
    ServingOptions,
    Wanted,
    least_need,
    place,
    place_spread,
)
from nodes.mesh.plans import EngineFacts
from nodes.mesh.reconcile import Run, RunState, Slot
from nodes.mesh.resources import Resources
from nodes.mesh.serving_story import how_it_ended, how_it_goes_on, how_it_starts

REFUSED_MAX = 32
"""Refused wishes that are still shown, with their reasons; the oldest goes first."""

SPLIT_LOST_CODES = (-6, -9, None)
"""How an engine over workers ends when one is gone: it aborts, is ended because a tunnel is lost, or its
tunnels could not be opened."""


class Serving:
    """What this node serves and wants to serve. Changed by `handle` alone."""

    def __init__(self, options: ServingOptions) -> None:
        self.options = options
        self.engine: EngineFacts | None = None
        self.engine_reason = ""
        self.resources: Resources | None = None
        self.wanted: dict[ModelName, Wanted] = {}
        self.causes: dict[ModelName, Cause] = {}
        """Why each wanted model is wanted."""
        self.expected: dict[ModelName, Cause] = {}
        """What the mesh asked for and the shell is still resolving, under the name asked for."""
        self.explained: dict[ModelName, str] = {}
        """Why a model waits, as the election over the whole mesh sees it."""
        self.resolving: dict[ModelName, ev.ModelResolving] = {}
        self.refused: dict[ModelName, str] = {}
        self.unplaced: dict[ModelName, NotPlaced] = {}
        self.directives: dict[ModelName, Directive] = {}
        """How the mesh wants a model run, where that is not alone (`direct`)."""
        self.next_plan_s: dict[ModelName, float] = {}
        """Seconds until a split that broke is planned anew, for people; empty: at once."""
        self.lent_to = ""
        """Whose split this node lends its memory to, for people; empty: nobody's."""
        self.slots: dict[ModelName, Slot] = {}
        self.load: dict[ModelName, ev.ServerLoadSampled] = {}
        self.engine_starts = 0
        self.stopping = False
        self.done_answering = False
        """The node stops and nobody waits for it any more: the others may be told, engines or not."""
        self.drained = False
        """An operator wants nothing served here for now (`drains`)."""
        self._leave_when_empty = False
        self._left = False
        self._last_run_id = 0

    def handle(self, event: ev.Event, now: float) -> list[Effect]:
        """Take one event; return what is to be done."""
        effects = list(self._take(event, now))
        effects.extend(self._reconcile(now))
        return effects

    @property
    def deadline(self) -> float | None:
        """When `TimePassed` is due: the earliest retry. None: nothing waits for time."""
        waits = [
            slot.retry_at_s
            for name, slot in self.slots.items()
            if slot.retry_at_s is not None and slot.run is None and self._waits_for_time(name)
        ]
        return min(waits, default=None) if not (self.stopping or self.drained) else None

    def _waits_for_time(self, name: ModelName) -> bool:
        # What waits for memory, a wish or its workers: its retry, once past, would be due for ever.
        gathers = isinstance(self.directives.get(name), Gather)
        return name in self.wanted and name not in self.unplaced and not gathers

    def used_bytes(self) -> int:
        """Return the memory that running and starting engines were planned with."""
        return sum(slot.run.need_bytes for slot in self.slots.values() if slot.run)

    def run_of(self, run_id: RunId) -> tuple[ModelName, Run] | None:
        """Return the run with this id; None when it is not the current one of its model."""
        for name, slot in self.slots.items():
            if slot.run is not None and slot.run.plan.run_id == run_id:
                return name, slot.run
        return None

    def _take(self, event: ev.Event, now: float) -> Iterator[Effect]:
        match event:
            case ev.EngineFound(engine):
                self.engine, self.engine_reason = engine, ""
            case ev.EngineUnavailable(reason):
                self.engine, self.engine_reason = None, reason
                yield RecordEvent("engine_missing", reason, "error")
            case ev.ResourcesSampled(resources):
                self.resources = resources
            case ev.ModelResolving():
                self.resolving[event.name] = event
            case ev.ModelWanted():
                yield from self._want(event)
            case ev.ModelRefused(name, reason, for_mesh):
                self.resolving.pop(name, None)
                if for_mesh:
                    self.expected.pop(name, None)
                    return
                self.refused.pop(name, None)
                while len(self.refused) >= REFUSED_MAX:
                    del self.refused[next(iter(self.refused))]
                self.refused[name] = reason
                yield RecordEvent("model_refused", reason, "error", name)
            case ev.ServerLoadSampled():
                self.load[event.model] = event
            case ev.DropRequested():
                yield from self._drop(event)
            case ev.RestartRequested(name):
                yield from self._restart(name)
            case ev.StopRequested(reason):
                yield from self._stop(reason)
            case ev.AnswersFinished():
                self.done_answering = self.stopping
            case ev.ServerDrafted(run_id):
                if (found := self.run_of(run_id)) is not None:
                    found[1].drafted = event
            case ev.ServerProgressed() | ev.ServerReady() | ev.ServerExited():
                yield from self._engine_report(event, now)
            case ev.TimePassed():
                pass

    def expect(self, name: ModelName, cause: Cause) -> None:
        """Remember that the mesh asks for a model: the next `ModelWanted` for it is not the operator's."""
        self.expected[name] = cause

    def drain(self, drained: bool, now: float) -> list[Effect]:
        """Serve nothing until told otherwise, or serve again what this node's operator asked for."""
        if drained == self.drained or self.stopping:
            return []
        self.drained = drained
        if not drained:
            effects: list[Effect] = [RecordEvent("undrained", "This node serves again.")]
            return [*effects, *self._reconcile(now)]
        text = "This node is drained: it takes no new requests; open answers may finish."
        effects = [RecordEvent("drained", text, "warning")]
        for name in (*self.expected, *self.causes):
            effects.extend(self.give_back(name))
        for name in tuple(self.slots):
            effects.extend(self._stop_run(name))
        return effects

    def give_back(self, name: ModelName) -> Iterator[Effect]:
        """Serve what the mesh asked for no longer, or no longer wait for its file; the node stays."""
        self.expected.pop(name, None)
        self.resolving.pop(name, None)
        if self.causes.get(name, Cause.OWN) is not Cause.OWN:
            self._forget(name)
            yield from self._stop_run(name)

    def explain(self, name: ModelName, text: str) -> bool:
        """Let a model that waits give this reason; return whether it waits and gave another."""
        self.explained[name] = text
        waits = self.unplaced.get(name)
        if waits is None or waits.taken or waits.reason == text:
            return False
        self.unplaced[name] = replace(waits, reason=text)
        return True

    def direct(self, name: ModelName, directive: Directive, now: float) -> list[Effect]:
        """Run a model so from now on; what contradicts it ends, what is missing starts."""
        if self.directives.get(name) == directive:
            return []
        self.directives[name] = directive
        if directive is None:
            del self.directives[name]
        return [*self._obey(name), *self._reconcile(now)]

    def lend(self, host: str, now: float) -> list[Effect]:
        """Lend this node's memory to a host's split, or to nobody's any more."""
        self.lent_to, before = host, self.lent_to
        return list(self._reconcile(now)) if before and not host else []

    def _obey(self, name: ModelName) -> Iterator[Effect]:
        slot = self.slots.get(name)
        directive = self.directives.get(name)
        if slot is None or slot.run is None or not contradicts(directive, slot.run.plan):
            return
        gently = isinstance(directive, Left) or directive == RETIRE
        if slot.run.plan.split is not None and not gently:
            # Its split has lost a part: there is nothing to wait for.
            yield from self._stop_run(name, 0.0)
        else:
            yield from self._stop_run(name)

    def _forget(self, name: ModelName) -> None:
        self.directives.pop(name, None)
        self.wanted.pop(name, None)
        self.causes.pop(name, None)
        self.unplaced.pop(name, None)
        self.explained.pop(name, None)

    def _want(self, event: ev.ModelWanted) -> Iterator[Effect]:
        name, asked = event.model.name, event.asked_as or event.model.name
        for known in (name, asked):
            self.resolving.pop(known, None)
            self.refused.pop(known, None)
        cause = self.expected.pop(asked, None) if event.for_mesh else Cause.OWN
        if cause is None or (cause is not Cause.OWN and name in self.wanted):
            return  # Given back meanwhile, or the operator asked for it too.
        if cause is Cause.OWN and not self.options.serve_all:
            for other in [n for n, why in self.causes.items() if why is not Cause.OWN]:
                if other != name:
                    yield from self.give_back(other)
        self.causes[name] = cause
        slot = self.slots.get(name)
        if slot is not None and slot.gave_up:
            slot.forgive()  # Asking for it again is asking for a fresh try.
        if name not in self.wanted:
            yield RecordEvent("model_wanted", f"{name} is to be served.", model=name)
        self.wanted[name] = Wanted(event.model, event.draft)
        self._leave_when_empty = self.stopping

    def _engine_report(
        self, event: ev.ServerProgressed | ev.ServerReady | ev.ServerExited, now: float
    ) -> Iterator[Effect]:
        found = self.run_of(event.run_id)
        if found is None:
            return
        name, run = found
        match event:
            case ev.ServerProgressed():
                run.phase, run.fraction = event.phase, event.fraction
            case ev.ServerReady():
                if run.state is RunState.STARTING:
                    run.state, run.ready, run.ready_at_s = RunState.READY, event, now
                    self.slots[name].reason = ""
                    text = f"{name} is ready after {event.load_s:.1f} s."
                    yield RecordEvent("engine_ready", text, model=name)
            case ev.ServerExited():
                yield from self._exited(name, event, now)

    def _exited(self, name: ModelName, event: ev.ServerExited, now: float) -> Iterator[Effect]:
        slot = self.slots[name]
        assert slot.run is not None
        # An engine that dies while its answers run out was asked to go as well.
        asked = event.asked or self.stopping or slot.run.state is RunState.STOPPING
        if slot.run.plan.split is not None and not asked and event.returncode in SPLIT_LOST_CODES:
            # No fault of the model's engine: whoever hosts the split plans it anew.
            slot.exited(event.reason, True, now)
            self.load.pop(name, None)
            text = how_it_goes_on(event.reason, self.next_plan_s.pop(name, 0.0))
            yield RecordEvent("split_lost", text, "warning", name)
            return
        slot.exited(event.reason, asked, now)
        self.load.pop(name, None)
        yield how_it_ended(name, slot, event.reason, asked, now)

    def _drop(self, event: ev.DropRequested) -> Iterator[Effect]:
        if self.refused.pop(event.name, None) is not None:
            text = f"{event.name}, which could not be served, is off the list."
            yield RecordEvent("model_dropped", text, model=event.name)
        if event.name not in self.wanted:
            return
        self._forget(event.name)
        # A model that is still being fetched is one that this node is to serve.
        self._leave_when_empty = event.leave_after and not self.wanted and not self.resolving
        yield RecordEvent("model_dropped", f"{event.name} is no longer served.", model=event.name)
        yield from self._stop_run(event.name)

    def _restart(self, name: ModelName) -> Iterator[Effect]:
        slot = self.slots.get(name)
        if slot is None:
            return
        slot.forgive()
        yield from self._stop_run(name)

    def _stop(self, reason: str) -> Iterator[Effect]:
        if self.stopping:
            return
        self.stopping = self._leave_when_empty = True
        yield RecordEvent("node_stopping", reason)
        for name in tuple(self.slots):
            yield from self._stop_run(name)

    def _stop_run(self, name: ModelName, at_most_s: float = math.inf) -> Iterator[Effect]:
        slot = self.slots.get(name)
        if slot is None or slot.run is None or slot.run.state is RunState.STOPPING:
            return
        grace_s = self.options.stop_grace_s if slot.run.state is RunState.READY else 0.0
        grace_s = min(grace_s, at_most_s)
        slot.run.state = RunState.STOPPING
        yield StopServer(slot.run.plan.run_id, grace_s)

    def _reconcile(self, now: float) -> Iterator[Effect]:
        running = any(slot.run for slot in self.slots.values())
        answering = self.stopping and not self.done_answering
        busy = running or answering or bool(self.lent_to)
        if self._leave_when_empty and not busy and not self._left:
            self._left = True
            reason = "stopped as asked" if self.stopping else "its last model was dropped"
            yield LeaveAndExit(0, reason)
        if self.stopping or self.drained or self.engine is None or self.resources is None:
            return
        yield from self._start_missing(now)

    def _start_missing(self, now: float) -> Iterator[Effect]:
        assert self.resources is not None
        held = {name for name, slot in self.slots.items() if slot.run and name in self.wanted}
        directed = {name for name in self.directives if name in self.wanted and name not in held}
        for name in directed:
            yield from self._as_directed(name, now)
        missing = [w for name, w in self.wanted.items() if name not in held | directed]
        if self.lent_to:
            yield from self._all_wait(missing)
            return
        free_bytes = self.resources.offered_bytes - self.used_bytes()
        own = sum(not isinstance(self.directives[name], Left) for name in directed)
        for decision in place(missing, free_bytes, len(held) + own, self.options):
            name = decision.wanted.model.name
            if isinstance(decision, NotPlaced):
                yield from self._waits(name, decision)
                continue
            slot = self.slots.setdefault(name, Slot())
            self.unplaced.pop(name, None)
            if slot.may_start(now):
                yield from self._start(slot, decision, now)

    def _as_directed(self, name: ModelName, now: float) -> Iterator[Effect]:
        """Do with a wanted model that does not run here what the mesh wants."""
        assert self.resources is not None
        wish, directive = self.wanted[name], self.directives[name]
        if isinstance(directive, Left):
            need = least_need(wish.model, self.options, wish.draft)
            left = NotPlaced(wish, need, self.resources.offered_bytes, directive.text)
            if self.unplaced.get(name) != left:
                self.unplaced[name] = left
                yield RecordEvent("model_left", f"{name}: {directive.text}.", model=name)
            return
        self.unplaced.pop(name, None)
        slot = self.slots.setdefault(name, Slot())
        if isinstance(directive, Spread) and slot.may_start(now):
            placed = place_spread(wish, directive.seats, directive.have_bytes, self.options)
            yield from self._start(slot, placed, now, directive)

    def _all_wait(self, missing: list[Wanted]) -> Iterator[Effect]:
        for wish in missing:
            need = least_need(wish.model, self.options, wish.draft)
            reason = f"this node lends its memory to a split of {self.lent_to}"
            yield from self._waits(wish.model.name, NotPlaced(wish, need, 0, reason, taken=True))

    def _waits(self, name: ModelName, decision: NotPlaced) -> Iterator[Effect]:
        """Note that a wanted model does not run, with the mesh's own reason where there is one."""
        told = self.explained.get(name, decision.reason)
        reason = decision.reason if decision.taken else told
        if name not in self.unplaced:
            yield RecordEvent("model_waits", f"{name}: {reason}", "warning", name)
        self.unplaced[name] = replace(decision, reason=reason)

    def _start(
        self, slot: Slot, placed: Placed, now: float, spread: Spread | None = None
    ) -> Iterator[Effect]:
        self._last_run_id += 1
        self.engine_starts += 1
        plan = server_plan(
            RunId(self._last_run_id), placed, self.options, spread, self._has_devices()
        )
        seats = spread.seats if spread is not None else ()
        slot.run = Run(plan, placed.need_bytes, now, seats)
        slot.starts += 1
        slot.retry_at_s = None
        text = how_it_starts(plan, self.wanted.get(plan.model.name), len(seats))
        yield RecordEvent("engine_starting", text, model=placed.wanted.model.name)
        yield StartServer(plan)

    def _has_devices(self) -> bool:
        return self.resources is not None and bool(self.resources.devices)
