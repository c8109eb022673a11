"""What this node says of itself: serving, disk and wishes become the `Announcement` that gossip carries.

Pure and total: called after every event whose outcome could change the announcement; gossip ignores an
equal one, so samples and progress never cost a version (spec, Announcement).
"""

from dataclasses import dataclass

from nodes.mesh import limits
from nodes.mesh.announcement import Announcement, ModelOnDiskLine, ServedModelLine
from nodes.mesh.ids import ModelName
from nodes.mesh.model_facts import ModelFacts
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


def announce(name: str, software: str, role: str, serving: Serving, own: OwnFacts) -> Announcement:
    """Return what is to be said now; every list is cut to what gossip carries."""
    resources = serving.resources
    engine = serving.engine
    runs = [(name, slot.run) for name, slot in serving.slots.items() if slot.run is not None]
    return Announcement(
        name=name[: limits.NAME_CHARS_MAX],
        addresses=tuple(a for a in own.addresses if len(a) <= limits.ADDRESS_CHARS_MAX)[
            : limits.ADDRESSES_MAX
        ],
        role=role,
        software=software[: limits.NAME_CHARS_MAX],
        memory_bytes=resources.offered_bytes if resources else 0,
        serving=tuple(_line(model, run) for model, run in runs)[: limits.SERVING_MAX],
        on_disk=tuple(_disk_line(facts) for facts in own.on_disk)[: limits.MODELS_ON_DISK_MAX],
        wanted=tuple(n for n in own.asked_for if _nameable(n))[: limits.MODELS_WANTED_MAX],
        rpc_version=engine.rpc_version[: limits.NAME_CHARS_MAX] if engine else "",
    )


def _line(model: ModelName, run: Run) -> ServedModelLine:
    ready = run.ready
    return ServedModelLine(
        name=model[: limits.NAME_CHARS_MAX],
        state=STATE_OF_RUN[run.state].value,
        slots=ready.slots if ready else run.plan.parallel,
        context=ready.context if ready else run.plan.context,
        capabilities=tuple(sorted(c.value for c in run.plan.model.capabilities)),
    )


def _disk_line(facts: ModelFacts) -> ModelOnDiskLine:
    return ModelOnDiskLine(
        facts.name[: limits.NAME_CHARS_MAX],
        facts.size_bytes,
        facts.fingerprint[: limits.NAME_CHARS_MAX],
    )


def _nameable(name: ModelName) -> bool:
    return len(name) <= limits.NAME_CHARS_MAX
