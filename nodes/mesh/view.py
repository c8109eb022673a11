"""Builds what viewers see (`snapshot`) and what routing uses (`routing`) from a node's state.

Pure and total: called after every event, compared with the last result, so that only differences
leave the core.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nodes.mesh.drains import DRAINED_ROLE
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.own_facts import STATE_OF_RUN
from nodes.mesh.placement import Wanted
from nodes.mesh.reconcile import Run, RunState, Slot
from nodes.mesh.routing import ModelState, RoutingTable, Upstream
from nodes.mesh.serving import Serving
from nodes.mesh.snapshot import Entry, State


@dataclass(frozen=True, slots=True)
class Me:
    """What never changes of this node while it runs."""

    node_id: NodeId
    name: str
    version: str
    mesh_id: str
    started_at: int
    """Unix seconds."""
    is_client: bool
    api_port: int
    console_port: int | None
    quic_port: int | None
    api_url: str
    console_url: str | None
    needs_key: bool = False
    """API requests must bring a key."""


def routing_table(me: Me, serving: Serving, elsewhere: Iterable[Upstream] = ()) -> RoutingTable:
    """Return the table by which requests are routed now: this node's engines, then those `elsewhere`."""
    upstreams = [
        _upstream(me, name, slot.run)
        for name, slot in serving.slots.items()
        if slot.run is not None
    ]
    running = {u.model for u in upstreams}
    for name in () if serving.drained else serving.wanted:
        # Wanted and not failed for good: a client is told to come back rather than that it is unknown.
        slot = serving.slots.get(name)
        if name not in running and name not in serving.unplaced and not (slot and slot.gave_up):
            upstreams.append(_soon(me, name, "starting", None))
    for name, resolving in serving.resolving.items():
        share = resolving.done_bytes / resolving.total_bytes if resolving.total_bytes else None
        upstreams.append(_soon(me, name, resolving.phase, share))
    upstreams.extend(elsewhere)
    return RoutingTable(me.node_id, tuple(upstreams), me.started_at)


def _upstream(me: Me, name: ModelName, run: Run) -> Upstream:
    ready = run.ready
    return Upstream(
        node_id=me.node_id,
        model=name,
        state=STATE_OF_RUN[run.state],
        host=ready.host if ready else None,
        port=ready.port if ready else None,
        slots=ready.slots if ready else run.plan.parallel,
        context=ready.context if ready else run.plan.context,
        capabilities=run.plan.model.capabilities,
        progress=run.fraction,
        phase=run.phase,
    )


def _soon(me: Me, name: ModelName, phase: str, progress: float | None) -> Upstream:
    return Upstream(
        me.node_id, name, ModelState.LOADING, None, None, 0, 0, frozenset(), progress, phase
    )


def state_map(me: Me, serving: Serving) -> State:
    """Return the whole map of `snapshot` for this node."""
    state: State = {
        "node": _node(me, serving),
        "engine": _engine(serving),
    }
    if serving.resources is not None:
        state["resources"] = _resources(serving)
        for number, gpu in enumerate(serving.resources.unusable):
            text = f"{gpu.description} is not used: {gpu.remedy}"
            state[f"notice/gpu-{number}"] = {"level": "warning", "text": text}
    names = {*serving.wanted, *serving.resolving, *serving.refused}
    names |= {name for name, slot in serving.slots.items() if slot.run}
    for name in names:
        state[f"model/{name}"] = _model(me, serving, name)
    return state


def _node(me: Me, serving: Serving) -> Entry:
    return {
        "node_id": me.node_id,
        "name": me.name,
        "version": me.version,
        "role": role(me, serving),
        "is_host": role(me, serving) == "host",
        "is_client": me.is_client,
        "state": _node_state(serving),
        "api_port": me.api_port,
        "console_port": me.console_port,
        "quic_port": me.quic_port,
        "api_url": me.api_url,
        "console_url": me.console_url,
        "needs_key": me.needs_key,
        "started_at": me.started_at,
        "mesh_id": me.mesh_id,
    }


def role(me: Me, serving: Serving) -> str:
    """Return ``client``, ``drained``, ``worker`` (it lends itself to a split), ``host`` (it runs or will
    run an engine) or ``standby``."""
    if me.is_client:
        return "client"
    if serving.drained:
        return DRAINED_ROLE
    if serving.lent_to:
        return "worker"
    hosting = (
        any(slot.run for slot in serving.slots.values()) or serving.wanted or serving.resolving
    )
    return "host" if hosting else "standby"


def _node_state(serving: Serving) -> str:
    if serving.stopping:
        return "stopping"
    slots = serving.slots.values()
    if serving.drained:
        return "draining" if any(slot.run for slot in slots) else "drained"
    if any(slot.run and slot.run.state is RunState.READY for slot in slots):
        return "serving"
    if any(slot.run for slot in slots) or serving.resolving:
        return "starting"
    if serving.engine_reason or serving.refused or any(slot.gave_up for slot in slots):
        return "failed"
    return "waiting" if serving.unplaced or not serving.wanted else "starting"


def _engine(serving: Serving) -> Entry:
    found = serving.engine
    return {
        "state": "found" if found else "missing",
        "version": found.version if found else "",
        "build": found.build if found else "",
        "rpc_version": found.rpc_version if found else "",
        "source": found.source if found else "",
        "reason": serving.engine_reason,
        "starts": serving.engine_starts,
    }


def _resources(serving: Serving) -> Entry:
    found = serving.resources
    assert found is not None
    return {
        "offered_bytes": found.offered_bytes,
        "used_bytes": serving.used_bytes(),
        "ram_total_bytes": found.ram_total_bytes,
        "ram_available_bytes": found.ram_available_bytes,
        "cpu_count": found.cpu_count,
        "cpu_percent": found.cpu_percent,
        "process_rss_bytes": found.process_rss_bytes,
        "engine_rss_bytes": found.engine_rss_bytes,
        "devices": [
            {
                "name": device.name,
                "description": device.description,
                "total_bytes": device.total_bytes,
                "free_bytes": device.free_bytes,
            }
            for device in found.devices
        ],
    }


def _model(me: Me, serving: Serving, name: ModelName) -> Entry:
    slot = serving.slots.get(name, Slot())
    wish = serving.wanted.get(name)
    model = slot.run.plan.model if slot.run else wish.model if wish else None
    status, state, reason = _standing(serving, name, slot)
    load = serving.load.get(name)
    return {
        "name": name,
        **_facts(model),
        **_running(slot.run),
        "status": status,
        "state": state,
        "reason": reason,
        **_resolving(serving, name),
        **_drafting(slot.run, wish),
        "need_bytes": _need_bytes(serving, name, slot),
        "starts": slot.starts,
        "node_count": 1 if slot.run and slot.run.state is RunState.READY else 0,
        "nodes": [me.node_id] if slot.run else [],
        "in_flight": load.in_flight if load else 0,
        "requests": load.requests if load else 0,
        "tokens": load.tokens if load else 0,
        "requests_per_s": load.requests_per_s if load else 0.0,
        "tokens_per_s": load.tokens_per_s if load else 0.0,
        "ttfb_p50_ms": load.ttfb_p50_ms if load else None,
    }


def _standing(serving: Serving, name: ModelName, slot: Slot) -> tuple[str, str, str]:
    """Return (status, state, reason) of a model: warm, loading or cold, and why."""
    if slot.run is not None:
        state = STATE_OF_RUN[slot.run.state]
        status = {ModelState.READY: "warm", ModelState.LOADING: "loading"}.get(state, "cold")
        return status, state.value, ""
    if serving.stopping:
        return "cold", "stopped", "The node is stopping."
    if name in serving.resolving:
        return "loading", "resolving", ""
    if serving.drained:
        return "cold", "drained", "This node is drained: it serves it again once it is undrained."
    if name in serving.refused:
        return "cold", "failed", serving.refused[name]
    if slot.gave_up:
        return "cold", "failed", slot.reason
    if name in serving.unplaced:
        return "cold", "waiting", serving.unplaced[name].reason
    if serving.engine_reason:
        return "cold", "failed", serving.engine_reason
    return "loading", "restarting" if slot.failures else "starting", slot.reason


def _facts(model: ModelFacts | None) -> dict[str, Any]:
    return {
        "title": model.title if model else "",
        "size_bytes": model.size_bytes if model else 0,
        "architecture": model.architecture if model else "",
        "quantisation": model.quantisation if model else "",
        "parameters": model.parameters if model else 0,
        "layers": model.layers if model else 0,
        "capabilities": sorted(model.capabilities) if model else [],
    }


def _running(run: Run | None) -> dict[str, Any]:
    ready = run.ready if run else None
    return {
        "context": ready.context if ready else run.plan.context if run else 0,
        "slots": ready.slots if ready else run.plan.parallel if run else 0,
        "phase": run.phase if run else "",
        "progress": run.fraction if run else None,
    }


def _drafting(run: Run | None, wish: Wanted | None) -> dict[str, Any]:
    """Return the draft model in use, or to be used, and which share of its guesses was right."""
    draft = run.plan.draft if run else wish.draft if wish else None
    drafted = run.drafted if run else None
    return {
        "draft": draft.name if draft else None,
        "draft_tokens": drafted.guessed if drafted else 0,
        "draft_acceptance": round(drafted.accepted / drafted.guessed, 3)
        if drafted and drafted.guessed
        else None,
    }


def _resolving(serving: Serving, name: ModelName) -> dict[str, Any]:
    found = serving.resolving.get(name)
    if found is None:
        return {}
    share = found.done_bytes / found.total_bytes if found.total_bytes else None
    return {"phase": found.phase, "progress": share, "size_bytes": found.total_bytes}


def _need_bytes(serving: Serving, name: ModelName, slot: Slot) -> int:
    if slot.run is not None:
        return slot.run.need_bytes
    return serving.unplaced[name].need_bytes if name in serving.unplaced else 0
