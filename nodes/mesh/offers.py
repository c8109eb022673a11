"""What each node brings to the mesh's decisions, and all of them at one moment.

An `Offer` is one node's announcement as election and assignment read it; a `MeshSnapshot` is the own
offer and those of the living members, with what follows from them (who hosts what, who is free, which
wishes nobody serves). Immutable: a decision is a pure function of a snapshot, so every node that holds
the same words decides the same. Passive clients never announce, so they are never in it.
Source: spec, Announcement, Election and split.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nodes.mesh import fit
from nodes.mesh.announcement import MIB, Announcement
from nodes.mesh.drains import DRAINED_ROLE
from nodes.mesh.gossip_effects import MemberView
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.routing import ModelState, match_name

WAITING = "waiting"
"""State of a served line: the node is to serve the model and cannot, or not yet. Never routed to."""

WISHED = frozenset({WAITING, ModelState.FAILED.value})
"""States of a line behind which there is no engine: only a wish."""
_LIVE = frozenset({ModelState.LOADING.value, ModelState.READY.value})


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A model on a node's disk."""

    size_bytes: int
    need_bytes: int
    """The least memory with which that node would serve it."""
    layers: int


@dataclass(frozen=True, slots=True)
class Line:
    """A model that a node serves, loads, drains or waits to serve."""

    state: str
    slots: int
    cause: str

    @property
    def live(self) -> bool:
        """Return whether it answers or soon will."""
        return self.state in _LIVE


@dataclass(frozen=True, slots=True)
class Split:
    """A split as its host announces it."""

    term: int
    workers: tuple[tuple[NodeId, int], ...]
    """(worker, layers), host not included."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a node lends to a host."""

    host: NodeId
    term: int
    ready: bool
    rpc_port: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """How much a model is asked for at one node."""

    requests_per_minute: int
    busy_percent: int


@dataclass(frozen=True, slots=True)
class Offer:
    """One node, as the decisions see it."""

    node_id: NodeId
    name: str
    memory_bytes: int
    engine: str
    """Empty: it can serve nothing."""
    rpc_version: str
    rank_last: bool = False
    drained: bool = False
    """Its operator wants nothing served there for now: it offers no engine and no memory."""
    force_split: bool = False
    lines: Mapping[ModelName, Line] = field(default_factory=dict)
    on_disk: Mapping[ModelName, OnDisk] = field(default_factory=dict)
    wishes: tuple[ModelName, ...] = ()
    """What its operator asks the mesh for, beside what it serves itself."""
    rates: Mapping[ModelName, Rate] = field(default_factory=dict)
    splits: Mapping[ModelName, Split] = field(default_factory=dict)
    works: Mapping[ModelName, Work] = field(default_factory=dict)
    rtts_ms: Mapping[NodeId, float] = field(default_factory=dict)
    """Round trips that it has seen to others, milliseconds."""

    @property
    def free(self) -> bool:
        """Return whether it has an engine and nothing to do: a standby."""
        return bool(self.engine) and self.memory_bytes > 0 and not (self.lines or self.works)

    def need_bytes(self, model: ModelName) -> int | None:
        """Return the least memory it needs for a model on its disk; None: it has not the file."""
        found = self.on_disk.get(model)
        return found.need_bytes if found else None

    def spare_bytes(self, model: ModelName) -> int:
        """Return the memory that is left for `model` beside the node's other engines."""
        taken = sum(
            self.on_disk[name].need_bytes
            for name, line in self.lines.items()
            if name != model and line.live and name in self.on_disk
        )
        return max(0, self.memory_bytes - taken)

    def runs_alone(self, model: ModelName) -> bool:
        """Return whether its engine for the model was started, and not as a split."""
        line = self.lines.get(model)
        return line is not None and line.live and line.slots > 0 and model not in self.splits

    def failed(self, model: ModelName) -> bool:
        """Return whether its engine failed with the model again and again, so that it gave up."""
        line = self.lines.get(model)
        return line is not None and line.state == ModelState.FAILED.value

    def can_hold(self, model: ModelName) -> bool:
        """Return whether it has the file and the memory to serve the model alone."""
        need = self.need_bytes(model)
        return bool(self.engine) and need is not None and need <= self.spare_bytes(model)


def offer_of(node_id: NodeId, said: Announcement, rank_last: bool = False) -> Offer:
    """Return a node's announcement as an offer."""
    return Offer(
        node_id=node_id,
        name=said.name or node_id[:8],
        memory_bytes=said.memory_bytes,
        engine=said.engine,
        rpc_version=said.rpc_version,
        rank_last=rank_last,
        drained=said.role == DRAINED_ROLE,
        force_split=said.force_split,
        lines={ModelName(li.name): Line(li.state, li.slots, li.cause) for li in said.serving},
        on_disk={
            ModelName(li.name): OnDisk(
                li.size_bytes,
                li.need_mib * MIB or round(li.size_bytes * fit.UNKNOWN_FACTOR),
                li.layers,
            )
            for li in said.on_disk
        },
        wishes=tuple(ModelName(name) for name in said.wanted),
        rates={
            ModelName(li.name): Rate(li.requests_per_minute, li.busy_percent) for li in said.rates
        },
        splits={
            ModelName(li.model): Split(
                li.term, tuple((NodeId(w.node_id.hex()), w.layers) for w in li.workers)
            )
            for li in said.splits
        },
        works={
            ModelName(li.model): Work(
                NodeId(li.host.hex()), li.term, li.state == "ready", li.rpc_port
            )
            for li in said.works
        },
        rtts_ms={NodeId(li.node_id.hex()): li.rtt_ms for li in said.rtts},
    )


def offer_of_member(view: MemberView) -> Offer:
    """Return what a living member offers."""
    return offer_of(view.node_id, view.announcement, view.rank_last)


@dataclass(frozen=True)
class MeshSnapshot:
    """Everybody's offer at one moment, and what this node alone knows beside them."""

    me: NodeId
    offers: Mapping[NodeId, Offer]
    """Living nodes, this one included."""
    lost: frozenset[ModelName] = frozenset()
    """Models whose last host was seen to die here, and that nobody dropped."""
    dropped: frozenset[ModelName] = frozenset()
    """Models that an operator dropped: no wish and no promotion counts for them."""
    catalogue: Mapping[ModelName, int] = field(default_factory=dict)
    """Sizes in bytes of what could be downloaded, under each name that people use for it."""
    held_out: Mapping[NodeId, str] = field(default_factory=dict)
    """Nodes that this one does not take as workers for now, and why (`split_faults`)."""
    broken: frozenset[tuple[ModelName, int]] = frozenset()
    """Splits of this node, by term, that have lost a part: they do not go on."""

    @property
    def own(self) -> Offer:
        """Return this node's own offer."""
        return self.offers[self.me]

    @cached_property
    def hosts(self) -> Mapping[ModelName, tuple[NodeId, ...]]:
        """Return, for each model that answers or loads somewhere, the nodes that run it, sorted."""
        found: dict[ModelName, list[NodeId]] = {}
        for offer in self.offers.values():
            for name, line in offer.lines.items():
                if line.live:
                    found.setdefault(name, []).append(offer.node_id)
        return {name: tuple(sorted(nodes)) for name, nodes in found.items()}

    @cached_property
    def provided(self) -> frozenset[ModelName]:
        """Return the models that somebody serves or is about to: live, or waiting where it fits."""
        found = set(self.hosts)
        for offer in self.offers.values():
            found.update(offer.splits)
            for name, line in offer.lines.items():
                if line.state == WAITING and offer.can_hold(name):
                    found.add(name)
        return frozenset(found)

    @cached_property
    def names(self) -> frozenset[ModelName]:
        """Return every name of a model that a node serves or has on disk, or that was dropped."""
        found: set[ModelName] = set(self.dropped)
        for offer in self.offers.values():
            found.update(offer.lines)
            found.update(offer.on_disk)
        return frozenset(found)

    @cached_property
    def free(self) -> tuple[Offer, ...]:
        """Return the standbys, by id."""
        return tuple(sorted((o for o in self.offers.values() if o.free), key=lambda o: o.node_id))

    @cached_property
    def unserved(self) -> Mapping[ModelName, tuple[ModelName, ...]]:
        """Return each wish that nobody serves, with the models on disks that it may mean.

        Wishes are what operators asked the mesh for, what a node is to serve and cannot, and what lost
        its last host; dropped models are none of them. No meaning: nobody has such a file.
        """
        found: dict[ModelName, tuple[ModelName, ...]] = {}
        for wish in self._wishes():
            if wish in found or wish in self.provided:
                continue
            means = tuple(ModelName(name) for name in match_name(wish, self.names))
            kept = tuple(name for name in means if name not in self.dropped)
            if (means and not kept) or self.provided.intersection(means):
                continue
            found[wish] = kept
        return found

    @cached_property
    def short_of_memory(self) -> bool:
        """Return whether a wish waits for memory: somebody has its file, and nobody can hold it alone."""
        for names in self.unserved.values():
            for name in names:
                held = [o for o in self.offers.values() if name in o.on_disk]
                if held and not any(o.can_hold(name) for o in held):
                    return True
        return False

    def _wishes(self) -> Iterable[ModelName]:
        for offer in self.offers.values():
            yield from offer.wishes
            yield from (name for name, line in offer.lines.items() if line.state in WISHED)
        yield from self.lost
