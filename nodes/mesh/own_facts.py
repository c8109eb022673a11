"""What this node says of itself: serving, disk and wishes become the `Announcement` that gossip carries.

Pure and total: called after every event whose outcome could change the announcement; gossip ignores an
equal one, so samples and progress never cost a version (spec, Announcement).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nodes.mesh import limits
from nodes.mesh.announcement import (
    MIB,
    Announcement,
    ModelOnDiskLine,
    RateLine,
    RttLine,
    ServedModelLine,
    SplitLine,
    WorkLine,
)
from nodes.mesh.causes import Cause
from nodes.mesh.ids import ModelName
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.offers import WAITING
from nodes.mesh.placement import ServingOptions, least_need
from nodes.mesh.reconcile import Run, RunState
from nodes.mesh.routing import ModelState
from nodes.mesh.serving import Serving

STATE_OF_RUN = {
    RunState.STARTING: ModelState.LOADING,
    RunState.READY: ModelState.READY,
    RunState.STOPPING: ModelState.DRAINING,
}
"""How far a model is, by how far its engine is."""


@dataclass(frozen=True, slots=True)
class OwnFacts:
    """What the shell has told this node of itself, beside what it serves."""

    addresses: tuple[str, ...] = ()
    """Where others can dial it, best first: ``host:port``."""
    on_disk: tuple[ModelFacts, ...] = ()
    """Models that it could serve from its own disk."""
    asked_for: tuple[ModelName, ...] = ()
    """Models that its operator asked the mesh for (`--model` beyond the first)."""
    disk_lines: tuple[ModelOnDiskLine, ...] = ()
    """`on_disk` as it is announced: made once for each look at the disk."""


@dataclass(frozen=True, slots=True)
class MeshWords:
    """What the mesh's decisions add to what this node says."""

    rates: tuple[RateLine, ...] = ()
    spoiled: frozenset[ModelName] = frozenset()
    """Models whose files it could not serve: it does not offer them for now."""
    dropped: frozenset[ModelName] = frozenset()
    """Wishes that an operator cancelled."""
    splits: tuple[SplitLine, ...] = ()
    """Splits that it hosts."""
    works: tuple[WorkLine, ...] = ()
    """What it lends to another host's split."""
    rtts: tuple[RttLine, ...] = ()
    """Round trips to the workers of its splits, as of their planning."""


def disk_lines(
    models: tuple[ModelFacts, ...], options: ServingOptions
) -> tuple[ModelOnDiskLine, ...]:
    """Return what is announced of the models on disk."""
    return tuple(
        ModelOnDiskLine(
            facts.name,
            facts.size_bytes,
            facts.fingerprint[: limits.NAME_CHARS_MAX],
            -(-least_need(facts, options) // MIB),
            facts.layers,
        )
        for facts in models
        if _nameable(facts.name)
    )


def announce(
    name: str, software: str, role: str, serving: Serving, own: OwnFacts, words: MeshWords
) -> Announcement:
    """Return what is to be said now; every list is cut to what gossip carries."""
    resources = serving.resources
    # A node that is drained, or goes, has nothing to offer: no decision of any node counts on it.
    away = serving.drained or serving.stopping
    engine = None if away else serving.engine
    offered = [line for line in _files(serving, own) if line.name not in words.spoiled]
    return Announcement(
        name=name[: limits.NAME_CHARS_MAX],
        addresses=tuple(a for a in own.addresses if len(a) <= limits.ADDRESS_CHARS_MAX)[
            : limits.ADDRESSES_MAX
        ],
        role=role,
        software=software[: limits.NAME_CHARS_MAX],
        memory_bytes=resources.offered_bytes if resources and not away else 0,
        serving=tuple(_lines(serving))[: limits.SERVING_MAX],
        on_disk=tuple(offered[: limits.MODELS_ON_DISK_MAX]),
        wanted=tuple(_wishes(serving, own, words.dropped))[: limits.MODELS_WANTED_MAX],
        force_split=serving.options.force_split,
        rates=words.rates[: limits.RATES_MAX],
        rpc_version=engine.rpc_version[: limits.NAME_CHARS_MAX] if engine else "",
        engine=engine.version[: limits.NAME_CHARS_MAX] if engine else "",
        splits=words.splits[: limits.SPLITS_MAX],
        works=words.works[: limits.SPLITS_MAX],
        rtts=words.rtts[: limits.RTTS_MAX],
    )


def _files(serving: Serving, own: OwnFacts) -> tuple[ModelOnDiskLine, ...]:
    """Return the files that it has: also one that was named by its path."""
    known = {line.name for line in own.disk_lines}
    beside = tuple(w.model for name, w in serving.wanted.items() if name not in known)
    return (*disk_lines(beside, serving.options), *own.disk_lines)


def _lines(serving: Serving) -> Iterator[ServedModelLine]:
    """Yield what the node serves or is to serve: running first, then what is on its way or waits."""
    running = {name for name, slot in serving.slots.items() if slot.run is not None}
    for name, slot in serving.slots.items():
        if slot.run is not None and _nameable(name):
            wanted = name in serving.wanted and not serving.drained
            yield _line(name, slot.run, serving.causes.get(name), wanted)
    for name, cause in serving.causes.items():
        waits = serving.unplaced.get(name)
        if name not in running and _nameable(name) and not (waits and waits.taken):
            yield ServedModelLine(name, _state_without_run(serving, name), cause=cause.value)
    # What is still being looked for or fetched counts as well: this node is not free meanwhile.
    for name in (*serving.expected, *(n for n in serving.resolving if n not in serving.expected)):
        if name not in running and name not in serving.causes and _nameable(name):
            cause = serving.expected.get(name, Cause.OWN)
            yield ServedModelLine(name, ModelState.LOADING.value, cause=cause.value)


def _state_without_run(serving: Serving, name: ModelName) -> str:
    slot = serving.slots.get(name)
    if slot is not None and slot.gave_up:
        return ModelState.FAILED.value
    if name in serving.unplaced or serving.engine is None or serving.drained:
        return WAITING
    return ModelState.LOADING.value


def _line(model: ModelName, run: Run, cause: Cause | None, wanted: bool) -> ServedModelLine:
    ready = run.ready
    # An engine that ends and is wanted is being restarted: nobody else is to take its model over.
    restarts = wanted and run.state is RunState.STOPPING
    state = ModelState.LOADING if restarts else STATE_OF_RUN[run.state]
    slots = ready.slots if ready else run.plan.parallel
    if run.plan.split is not None and state is not ModelState.READY:
        slots = 0  # Nobody is to take it for one that runs here alone (`Offer.runs_alone`).
    return ServedModelLine(
        name=model,
        state=state.value,
        slots=slots,
        context=ready.context if ready else run.plan.context,
        capabilities=tuple(sorted(c.value for c in run.plan.model.capabilities)),
        cause=cause.value if cause else "",
    )


def _wishes(serving: Serving, own: OwnFacts, dropped: frozenset[ModelName]) -> Iterator[ModelName]:
    """Yield what the node asks the mesh for: also what it was asked to serve beside another model."""
    beside = [name for name, waits in serving.unplaced.items() if waits.taken]
    for name in dict.fromkeys((*own.asked_for, *beside)):
        if _nameable(name) and name not in dropped:
            yield name


def _nameable(name: ModelName) -> bool:
    return len(name) <= limits.NAME_CHARS_MAX
