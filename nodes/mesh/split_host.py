"""The host's side of splits: from an election's outcome to workers that are ready, and to their loss.

For each model that this node is to split: announces a term with its workers, waits until each says that
its rpc-server is ready in that term, then has `serving` run the engine over them. A part that is lost ends
the term: the engine is stopped, and the election is held again at once. Knows no engines, no sockets and
no lane. Source: spec, Election and split; issue 5, Losing a worker.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from nodes.mesh.announcement import RttLine, SplitLine, SplitWorkerLine
from nodes.mesh.directives import GATHER, RETIRE, Directive, Spread
from nodes.mesh.effects import Effect, RecordEvent
from nodes.mesh.election import Election, Mode, next_term
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.limits import SPLITS_MAX
from nodes.mesh.offers import MeshSnapshot, Offer, Split, Work
from nodes.mesh.plans import SplitPlan, WorkerSeat
from nodes.mesh.serving import Serving
from nodes.mesh.split import layer_counts, memory_shares
from nodes.mesh.split_faults import SplitFaults
from nodes.mesh.split_seats import Seat

GATHER_S = 45.0
"""Unit: seconds for all workers of a split to be ready: longer than the grace of the streams (30 s) that a
worker's own engine may still have."""

STOOD_AFTER_S = 60.0
"""Unit: seconds with all its parts after which a split has shown that it works."""

SLOW_RTT_MS = 500.0
"""Unit: milliseconds. A worker this far away for `SLOW_FOR_S` is of no use: each token crosses to it and
back. Far above `split.RTT_MAX_MS`, since a machine that computes answers probes late."""

SLOW_FOR_S = 30.0
"""Unit: seconds."""

BROKEN_MAX = 64
"""Terms that ended here and are remembered; the oldest goes first."""

Members = Callable[[NodeId], Offer | None]


@dataclass(slots=True)
class _Term:
    """A split of one model, as it is announced now."""

    number: int
    seats: tuple[Seat, ...]
    have_bytes: int
    since_s: float
    ports: dict[NodeId, int] = field(default_factory=dict)
    """rpc ports of the workers that are ready, by node."""
    plan: SplitPlan | None = None
    """Set once all are ready."""
    retires: bool = False
    """A worker is about to go: the engine ends once its answers are through."""
    runs_out: bool = False
    """Its model is not wanted here any more: open answers come to their end, nobody is waited for."""

    @property
    def workers(self) -> tuple[Seat, ...]:
        return self.seats[1:]


class SplitHost:
    """This node's splits. Changed by its methods alone."""

    def __init__(self, me: NodeId, serving: Serving) -> None:
        self.faults = SplitFaults()
        self._me = me
        self._serving = serving
        self._terms: dict[ModelName, _Term] = {}
        self._broken: dict[tuple[ModelName, int], None] = {}
        self._slow_since_s: dict[NodeId, float] = {}
        """Workers that are late to answer, or further away than `SLOW_RTT_MS`, and since when."""
        self._leaving: dict[ModelName, NodeId] = {}
        """Splits that another host takes over once it can answer."""
        self._look_at_once = False
        """An heir was found that may answer already."""

    # --- what it says -----------------------------------------------------------------------------

    def lines(self) -> tuple[SplitLine, ...]:
        """Return what is announced."""
        return tuple(
            SplitLine(
                name,
                term.number,
                tuple(SplitWorkerLine(bytes.fromhex(s.node_id), s.layers) for s in term.workers),
            )
            for name, term in self._terms.items()
        )

    def round_trips(self) -> tuple[RttLine, ...]:
        """Return how far its workers were when they were chosen: it changes with a split alone."""
        seats = [seat for term in self._terms.values() for seat in term.workers]
        return tuple(
            RttLine(bytes.fromhex(seat.node_id), round(seat.rtt_ms, 1))
            for seat in seats
            if seat.rtt_ms is not None
        )

    @property
    def broken(self) -> frozenset[tuple[ModelName, int]]:
        """Return the terms of this node that do not go on."""
        return frozenset(self._broken)

    def as_offered(self) -> dict[ModelName, Split]:
        """Return the same as this node's own offer has it."""
        return {
            name: Split(term.number, tuple((s.node_id, s.layers) for s in term.workers))
            for name, term in self._terms.items()
        }

    def seats(self, model: ModelName) -> tuple[Seat, ...]:
        """Return the seats of the split that this node hosts; none: it hosts none."""
        term = self._terms.get(model)
        return term.seats if term is not None else ()

    def directive(self, model: ModelName) -> Directive:
        """Return how `serving` is to run a model of this node, as far as its splits are concerned."""
        term = self._terms.get(model)
        if term is None:
            return None
        if term.retires:
            return RETIRE
        return GATHER if term.plan is None else Spread(term.plan, term.seats, term.have_bytes)

    @property
    def deadline(self) -> float | None:
        """When the patience with a worker ends; None: nobody is waited for."""
        if self._look_at_once:
            return -math.inf
        waits = [
            term.since_s + GATHER_S
            for term in self._terms.values()
            if term.plan is None and not term.runs_out
        ]
        waits += [since_s + SLOW_FOR_S for since_s in self._slow_since_s.values()]
        return min(waits, default=None)

    # --- what the elections decide ----------------------------------------------------------------

    def elected(
        self, election: Election, seen: MeshSnapshot, now: float, least_term: int
    ) -> Iterator[Effect]:
        """Take an outcome that has settled."""
        name = election.model
        if election.mode is Mode.SPLIT and election.hosts == (self._me,):
            self._leaving.pop(name, None)
            if not election.stands and len(self._terms) < SPLITS_MAX:
                yield from self._plan(election, seen, now, least_term)
            return
        if name not in self._terms:
            return
        others = [host for host in election.hosts if host != self._me]
        if election.mode is Mode.SOLO and others and len(others) == len(election.hosts):
            self._leaving[name] = others[0]  # It goes on until the other one can answer.
            self._look_at_once = True
            return
        self.withdraw(name)
        yield RecordEvent("split_ended", f"{name} is split no longer: {election.text}.", model=name)

    def _plan(
        self, election: Election, seen: MeshSnapshot, now: float, least_term: int
    ) -> Iterator[Effect]:
        name = election.model
        have = sum(seen.offers[seat.node_id].spare_bytes(name) for seat in election.seats)
        ended = (number for model, number in self._broken if model == name)
        # A worker is done with a term that ended: the wall clock's second may be its number again.
        number = next_term(seen, name, max(least_term, 1 + max(ended, default=0)))
        term = _Term(number, self._given(election.seats), have, now)
        self._terms[name] = term
        parts = ", ".join(
            f"{'this node' if seat.node_id == self._me else seen.offers[seat.node_id].name} "
            f"{seat.layers} layers ({seat.share:.2f})"
            for seat in term.seats
        )
        text = f"{name} is to be split, {election.text}: {parts}."
        yield RecordEvent("split_planned", text, model=name)

    def _given(self, seats: tuple[Seat, ...]) -> tuple[Seat, ...]:
        """Return the seats with the operator's own ratios (`--tensor-split`), host first, where they fit."""
        given = self._serving.options.tensor_split
        if given is None or len(given) != len(seats) or not all(given):
            return seats
        parts = [round(ratio * 1_000_000) for ratio in given]
        counts = layer_counts(sum(seat.layers for seat in seats), parts)
        shares = memory_shares(parts)
        return tuple(
            Seat(seat.node_id, count, share, seat.rtt_ms)
            for seat, count, share in zip(seats, counts, shares, strict=True)
        )

    def withdraw(self, model: ModelName) -> None:
        """Split a model no longer."""
        term = self._terms.pop(model, None)
        self._leaving.pop(model, None)
        if term is not None:
            self._end(model, term)

    def _end(self, model: ModelName, term: _Term) -> None:
        self._broken[model, term.number] = None
        while len(self._broken) > BROKEN_MAX:
            del self._broken[next(iter(self._broken))]

    # --- how it goes on ---------------------------------------------------------------------------

    def engine_ended(self, model: ModelName, number: int, now: float) -> float | None:
        """The engine over a split ended by itself; return how long to wait before the next plan, if it was
        the split of now."""
        term = self._terms.get(model)
        if term is None or term.number != number:
            return None
        self.withdraw(model)
        return self.faults.broke(model, now)

    def look(
        self,
        member: Members,
        wanted: frozenset[ModelName],
        rtts_ms: Mapping[NodeId, float],
        now: float,
    ) -> "Looked":
        """Look at every worker as it is now; return what became of the splits.

        `rtts_ms` are the round trips as they are now, unlike those by which workers are chosen.
        """
        looked = Looked()
        self._look_at_once = False
        for name, term in self._terms.items():
            term.runs_out = name not in wanted
        self._note_slow(member, rtts_ms, now)
        for name, term in tuple(self._terms.items()):
            if term.runs_out:
                # Open answers still come through its workers.
                if not self._runs_out(name):
                    self.withdraw(name)
                continue
            lost = self._lost(name, term, member, now)
            if lost:
                self._lose(name, term, lost, now, looked)
                continue
            if self._retires(name, term, member, looked):
                continue
            if term.plan is None:
                self._gather(name, term, looked)
            elif now - term.since_s > STOOD_AFTER_S:
                self.faults.stood(name)
            heir = member(self._leaving[name]) if name in self._leaving else None
            if heir is not None and heir.runs_alone(name) and heir.lines[name].state == "ready":
                self.withdraw(name)
                looked.say("split_ended", f"{name} is split no longer: {heir.name} has it.", name)
        return looked

    def _retires(self, model: ModelName, term: _Term, member: Members, looked: "Looked") -> bool:
        """Look whether a worker is about to go: it stops or is drained, and so offers nothing."""
        going = [o for s in term.workers if (o := member(s.node_id)) is not None and not o.engine]
        if going and not term.retires:
            term.retires = True
            names = ", ".join(offer.name for offer in going)
            text = (
                f"{model} gives up its split, as {names} is about to go: open answers may finish."
            )
            looked.say("split_retires", text, model)
        if term.retires and not self._runs_out(model):
            self.withdraw(model)
            looked.retired.append(model)
        return term.retires

    def _runs_out(self, model: ModelName) -> bool:
        """Return whether an engine over workers is there yet."""
        slot = self._serving.slots.get(model)
        return slot is not None and slot.run is not None and slot.run.plan.split is not None

    def _lost(
        self, model: ModelName, term: _Term, member: Members, now: float
    ) -> Mapping[NodeId, str]:
        """Return the workers that the split cannot go on with, and why; notes who is ready."""
        lost: dict[NodeId, str] = {}
        for seat in term.workers:
            offer = member(seat.node_id)
            if offer is None:
                lost[seat.node_id] = "it is gone"
                continue
            if self._is_slow(seat.node_id, now):
                lost[seat.node_id] = f"it has been slow to answer for {SLOW_FOR_S:.0f} s"
                continue
            work = offer.works.get(model)
            if work is not None and self._follows(work, term) and work.ready:
                term.ports[seat.node_id] = work.rpc_port
            elif seat.node_id in term.ports:
                lost[seat.node_id] = "its rpc-server ended"
            elif term.plan is None and now >= term.since_s + GATHER_S:
                lost[seat.node_id] = f"it was not ready within {GATHER_S:.0f} s"
        return lost

    def _note_slow(self, member: Members, rtts_ms: Mapping[NodeId, float], now: float) -> None:
        counted_on = [term for term in self._terms.values() if not term.runs_out]
        workers = {seat.node_id for term in counted_on for seat in term.workers}
        slow = {
            worker
            for worker in workers
            if rtts_ms.get(worker, 0.0) > SLOW_RTT_MS
            or ((offer := member(worker)) is not None and offer.rank_last)
        }
        self._slow_since_s = {worker: self._slow_since_s.get(worker, now) for worker in slow}

    def _is_slow(self, worker: NodeId, now: float) -> bool:
        return now - self._slow_since_s.get(worker, now) >= SLOW_FOR_S

    def _follows(self, work: Work, term: _Term) -> bool:
        return work.host == self._me and work.term == term.number

    def _lose(
        self,
        model: ModelName,
        term: _Term,
        lost: Mapping[NodeId, str],
        now: float,
        looked: "Looked",
    ) -> None:
        for worker in lost:
            came = worker in term.ports and not self._is_slow(worker, now)
            (self.faults.lost if came else self.faults.unfit)(worker, now)
        self.withdraw(model)
        looked.lost[model] = dict(lost)

    def _gather(self, model: ModelName, term: _Term, looked: "Looked") -> None:
        if len(term.ports) < len(term.workers):
            return
        seats = tuple(
            WorkerSeat(seat.node_id, term.ports[seat.node_id], seat.layers) for seat in term.workers
        )
        term.plan = SplitPlan(term.number, seats, self._host_layers(term.seats[0].layers))
        looked.ready.append(model)

    def _host_layers(self, layers: int) -> tuple[int, ...]:
        """Return the host's layers for each of its devices, by their memory."""
        resources = self._serving.resources
        devices = resources.devices if resources is not None else ()
        if len(devices) < 2 or self._serving.options.rpc_self:
            return (layers,)
        total = sum(device.total_bytes for device in devices) or 1
        counts = [layers * device.total_bytes // total for device in devices]
        counts[-1] += layers - sum(counts)
        return tuple(counts)


@dataclass(slots=True)
class Looked:
    """What became of this node's splits."""

    ready: list[ModelName] = field(default_factory=list)
    """All workers are there."""
    lost: dict[ModelName, dict[NodeId, str]] = field(default_factory=dict)
    """Splits that ended, with the workers that were lost and why."""
    retired: list[ModelName] = field(default_factory=list)
    """Splits that ended because a worker goes; their open answers are through."""
    told: list[RecordEvent] = field(default_factory=list)

    def say(self, kind: str, text: str, model: ModelName) -> None:
        """Note a line of history."""
        self.told.append(RecordEvent(kind, text, model=model))
