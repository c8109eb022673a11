"""The worker's side of splits: obeys the highest orders that name this node, with one rpc-server at most.

Decides when an rpc-server is started and ended, and what is announced of it. One split per rpc-server: other
orders, or the same host's next term, end the one before. A term whose rpc-server ended is over here: only a
newer one is obeyed, until the host itself says nothing of it any more. Knows no processes and no lane.
Source: spec, Election and split; docs/split.md.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from nodes.mesh.announcement import WorkLine
from nodes.mesh.effects import Effect, RecordEvent, StartWorker, StopWorker
from nodes.mesh.election import Orders
from nodes.mesh.events import WorkerExited, WorkerReady
from nodes.mesh.ids import ModelName, NodeId, RunId
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.offers import Offer, Work
from nodes.mesh.plans import WorkerPlan

OVER_MAX = 256
"""Splits whose last term here is remembered; the oldest goes first."""


class LentState(StrEnum):
    """Where the rpc-server is."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(slots=True)
class _Lent:
    plan: WorkerPlan
    state: LentState = LentState.STARTING
    port: int = 0


class SplitWorker:
    """What this node lends. Changed by its methods alone."""

    def __init__(self) -> None:
        self._lent: _Lent | None = None
        self._over: dict[tuple[NodeId, ModelName], int] = {}
        self._last_run_id = 0
        self.orders: Orders | None = None
        """What it obeys, or is about to."""

    @property
    def model(self) -> ModelName | None:
        """Return the model that this node works for, or is about to; None: it is free."""
        if self.orders is not None:
            return self.orders.model
        return self._lent.plan.model if self._lent is not None else None

    @property
    def host(self) -> NodeId | None:
        """Return whom this node works for, or is about to."""
        if self.orders is not None:
            return self.orders.host
        return self._lent.plan.host if self._lent is not None else None

    def heed(self, found: Orders | None) -> Orders | None:
        """Return the orders if they are to be obeyed: a term that ended here is over."""
        if found is None or found.term <= self._over.get((found.host, found.model), 0):
            return None
        return found

    def forget(self, member: Callable[[NodeId], Offer | None], me: NodeId) -> None:
        """Forget ended terms of which their host says nothing any more.

        One that was started again with its clock set back begins below them, and is obeyed all the same.
        """
        for host, model in tuple(self._over):
            offer = member(host)
            if offer is None:
                continue  # Its last words may come back as they were.
            split = offer.splits.get(model)
            if split is None or all(worker != me for worker, _ in split.workers):
                del self._over[host, model]

    def finishes(self, found: Orders | None) -> bool:
        """Return whether these orders are those of the rpc-server that runs.

        A node that goes obeys no others, but lets the open answers of its host come to their end.
        """
        return self._lent is not None and _same(self._lent.plan, found)

    @property
    def plan(self) -> WorkerPlan | None:
        """Return what its rpc-server runs for; None: there is none."""
        return self._lent.plan if self._lent is not None else None

    @property
    def runs(self) -> bool:
        """Return whether an rpc-server runs."""
        return self._lent is not None

    def lines(self) -> tuple[WorkLine, ...]:
        """Return what is announced."""
        lent = self._lent
        if lent is None or lent.state is LentState.STOPPING:
            return ()
        plan = lent.plan
        state, port = lent.state.value, lent.port
        return (WorkLine(bytes.fromhex(plan.host), plan.model, plan.term, state, port),)

    def as_offered(self) -> dict[ModelName, Work]:
        """Return the same as this node's own offer has it."""
        lent = self._lent
        if lent is None:
            return {}
        ready = lent.state is LentState.READY
        return {lent.plan.model: Work(lent.plan.host, lent.plan.term, ready, lent.port)}

    def look(self, may_start: bool, files: Iterable[ModelFacts]) -> Iterator[Effect]:
        """Obey `orders`; `may_start`: this node's own engines are out of the way."""
        found, lent = self.orders, self._lent
        if lent is not None:
            if not _same(lent.plan, found) and lent.state is not LentState.STOPPING:
                lent.state = LentState.STOPPING
                yield StopWorker(lent.plan.run_id)
            return
        if found is None or not may_start:
            return
        self._last_run_id += 1
        own = next((facts.shards for facts in files if facts.name == found.model), ())
        plan = WorkerPlan(
            RunId(self._last_run_id), found.model, found.host, found.term, found.layers, own
        )
        self._lent = _Lent(plan)
        yield StartWorker(plan)

    def ready(self, event: WorkerReady) -> bool:
        """Take the report; return whether it is of the rpc-server of now."""
        lent = self._lent
        if lent is None or lent.plan.run_id != event.run_id or lent.state is LentState.STOPPING:
            return False
        lent.state, lent.port = LentState.READY, event.port
        return True

    def exited(self, event: WorkerExited) -> Iterator[Effect]:
        """Take the report: the term is over here."""
        lent = self._lent
        if lent is None or lent.plan.run_id != event.run_id:
            return
        self._lent, plan = None, lent.plan
        self._over.pop((plan.host, plan.model), None)
        self._over[plan.host, plan.model] = plan.term
        while len(self._over) > OVER_MAX:
            del self._over[next(iter(self._over))]
        if self.orders is not None and _same(plan, self.orders):
            self.orders = None
        if not event.asked:
            yield RecordEvent("worker_exited", event.reason, "warning", plan.model, plan.host)


def _same(plan: WorkerPlan, found: Orders | None) -> bool:
    return found is not None and (plan.host, plan.model, plan.term) == (
        found.host,
        found.model,
        found.term,
    )
