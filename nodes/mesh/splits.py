"""This node's part in splits, as host and as worker: joins `split_host`, `split_worker` and `serving`.

Decides the order in which they act and what each model's directive is: lent, left to another host, spread
over workers, or alone. Called by `duties` alone. Source: spec, Election and split.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from nodes.mesh import events as ev
from nodes.mesh.directives import GATHER, Directive, Left
from nodes.mesh.effects import Effect, RecordEvent
from nodes.mesh.election import Election, orders
from nodes.mesh.gossip_effects import MemberView
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.limits import MEMBERS_MAX
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.offer_book import GONE, OfferBook
from nodes.mesh.offers import MeshSnapshot, Offer
from nodes.mesh.own_facts import MeshWords
from nodes.mesh.reasons import Reasons
from nodes.mesh.reelection import Reelection
from nodes.mesh.serving import Serving
from nodes.mesh.split_host import SplitHost
from nodes.mesh.split_worker import SplitWorker


class Splits:
    """Host and worker in one. Changed by its methods alone."""

    def __init__(self, me: NodeId, serving: Serving, reasons: Reasons) -> None:
        self.host = SplitHost(me, serving)
        self.worker = SplitWorker()
        self._me = me
        self._serving = serving
        self._reasons = reasons
        self._rtts_ms: dict[NodeId, float] = {}
        self._rtts_now_ms: dict[NodeId, float] = {}
        self._names: dict[NodeId, str] = {}
        """Of everybody seen in this mesh lately (as many as gossip keeps): also of those that are gone."""
        self._planned_anew: dict[ModelName, Election | None] = {}
        """Models whose split broke, with the election before: the next one says how it goes on."""
        self.lane: tuple[ev.LaneLine, ...] = ()

    # --- what comes in ----------------------------------------------------------------------------

    def members_changed(self, views: Iterable[MemberView]) -> None:
        """Note the shortest round trips that this node has seen: a busy machine answers late, and is near."""
        for view in views:
            self._names.pop(view.node_id, None)
            self._names[view.node_id] = view.announcement.name
            while len(self._names) > MEMBERS_MAX:
                del self._names[next(iter(self._names))]
            if view.rtt_s is None or view.state in GONE:
                # It may come back from elsewhere: how near it was says nothing then.
                self._rtts_ms.pop(view.node_id, None)
                self._rtts_now_ms.pop(view.node_id, None)
            else:
                least_s = view.rtt_s if view.rtt_least_s is None else view.rtt_least_s
                rtt_ms = round(least_s * 1000, 2)
                self._rtts_now_ms[view.node_id] = round(view.rtt_s * 1000, 2)
                self._rtts_ms[view.node_id] = min(rtt_ms, self._rtts_ms.get(view.node_id, rtt_ms))

    def left_mesh(self) -> None:
        """This node is in another mesh now."""
        self._rtts_ms.clear()
        self._rtts_now_ms.clear()
        self._names.clear()

    def worker_report(self, event: ev.WorkerReady | ev.WorkerExited) -> Iterator[Effect]:
        """Take what the shell tells of the rpc-server."""
        if isinstance(event, ev.WorkerExited):
            yield from self.worker.exited(event)
        elif self.worker.ready(event):
            model = self.worker.model
            yield RecordEvent(
                "worker_ready", f"This node works for {model}.", model=str(model or "")
            )

    def engine_exited(self, event: ev.ServerExited, reelection: Reelection, now: float) -> None:
        """Before `serving` hears of it: an engine over workers that ended by itself ends its term."""
        found = self._serving.run_of(event.run_id)
        if found is None or event.asked:
            return
        name, run = found
        goes = self._out or name not in self._serving.wanted
        if run.plan.split is None or goes:
            return  # Of one that goes, only its open answers were left.
        wait_s = self.host.engine_ended(name, run.plan.split.term, now)
        if wait_s is not None:
            self._serving.next_plan_s[name] = wait_s
            text = f"{event.reason.rstrip('.')}; it is planned anew."
            self._reasons.note(name, "split_lost", text)
            self._plan_anew(name, reelection, now + wait_s)
            self._serving.directives[name] = GATHER

    @property
    def _out(self) -> bool:
        """Whether this node is to serve nothing, whatever is wanted."""
        return self._serving.stopping or self._serving.drained

    def _plan_anew(self, name: ModelName, reelection: Reelection, at_s: float) -> None:
        self._planned_anew[name] = reelection.latest(name)
        reelection.hurry(name, at_s)

    # --- what is due ------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When to look again; None: only when something changes."""
        return self.host.deadline

    def look(
        self,
        book: OfferBook,
        reelection: Reelection,
        dropped: frozenset[ModelName],
        now: float,
    ) -> Iterator[Effect]:
        """See what became of splits and orders."""
        serving, out = self._serving, self._out
        wanted = frozenset() if out else frozenset(serving.wanted)
        looked = self.host.look(book.get, wanted, self._rtts_now_ms, now)
        for name, lost in looked.lost.items():
            parts = ", ".join(f"{self._name(node)}: {why}" for node, why in lost.items())
            text = f"{name} lost a part of its split ({parts}); it is planned anew."
            self._reasons.note(name, "split_lost", text)
            yield RecordEvent("split_lost", text, "warning", name, next(iter(lost)))
            self._plan_anew(name, reelection, now)
        for name in looked.retired:
            self._plan_anew(name, reelection, now)
        yield from looked.told
        self.worker.forget(book.get, self._me)
        # Of a model that is dropped the open answers come to their end: the host says when.
        refused = dropped - {self.worker.model}
        found = self.worker.heed(orders(book.splitters(), self._me, refused))
        self.worker.orders = None if out and not self.worker.finishes(found) else found

    def act(
        self, reelection: Reelection, disk: tuple[ModelFacts, ...], now: float
    ) -> Iterator[Effect]:
        """Let `serving` and the rpc-server follow."""
        serving, worker = self._serving, self.worker
        for name, before in tuple(self._planned_anew.items()):
            if name not in serving.wanted or reelection.latest(name) is not before:
                del self._planned_anew[name]
        host = worker.orders.host if worker.orders is not None else None
        if host is not None or not worker.runs:
            yield from serving.lend(self._name(host) if host is not None else "", now)
        for name in tuple(serving.wanted):
            yield from serving.direct(name, self._directive(name, reelection), now)
        busy = any(slot.run is not None for slot in serving.slots.values())
        files = (*disk, *(wish.model for wish in serving.wanted.values()))
        yield from worker.look(not busy, files)

    def _directive(self, name: ModelName, reelection: Reelection) -> Directive:
        if self.worker.model == name:
            host = self.worker.host
            return Left(f"this node works for the split of {self._name(host)}")
        if name in self._planned_anew:
            return GATHER
        spread = self.host.directive(name)
        latest = reelection.latest(name)
        elsewhere = latest is not None and latest.stands and self._me not in latest.hosts
        if spread is None and latest is not None and elsewhere:
            return Left(f"left to {self._name(latest.hosts[0])}, which has it split")
        return spread

    # --- what goes out ----------------------------------------------------------------------------

    def words(self, words: MeshWords) -> MeshWords:
        """Return what is said, with this node's splits and what it lends."""
        return replace(
            words,
            splits=self.host.lines(),
            works=self.worker.lines(),
            rtts=self.host.round_trips(),
        )

    def own(self, offer: Offer) -> Offer:
        """Return this node's own offer as it is now."""
        lines = dict(offer.lines)
        for name, slot in self._serving.slots.items():
            if name in lines and slot.run is not None and slot.run.plan.split is not None:
                lines[name] = replace(lines[name], slots=0)  # It does not run here alone.
        return replace(
            offer,
            lines=lines,
            splits=self.host.as_offered(),
            works=self.worker.as_offered(),
            rtts_ms=self._rtts_ms,
        )

    def seen(self, snapshot: MeshSnapshot, now: float) -> MeshSnapshot:
        """Return a snapshot with what this node alone knows of splits."""
        held_out = self.host.faults.held_out(now)
        if not held_out and not self.host.broken:
            return snapshot
        return replace(snapshot, held_out=held_out, broken=self.host.broken)

    def _name(self, node_id: NodeId | None) -> str:
        if node_id is None:
            return "another node"
        return self._names.get(node_id) or node_id[:8]
