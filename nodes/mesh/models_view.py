"""What viewers see of each model over the whole mesh: this node's own part, then everybody's.

Pure: completes the ``model/`` entries that `view` made of this node with the hosts, files and wishes
of the others, and adds those that only others have. Source: `snapshot`, the contract of the keys.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from nodes.mesh.gossip_effects import MemberView
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.members import Members
from nodes.mesh.own_facts import OwnFacts
from nodes.mesh.routing import ModelState
from nodes.mesh.snapshot import Entry, State

_RUNS = frozenset({ModelState.LOADING, ModelState.READY, ModelState.DRAINING})
"""States of a line behind which there is an engine, or will be; a node that only waits is no host."""

NODES_LISTED_MAX = 200
"""Nodes named in one list of a model's entry."""


@dataclass(slots=True)
class _Elsewhere:
    """What the other nodes have of one model."""

    hosts: list[dict[str, Any]] = field(default_factory=list)
    on_disk: list[str] = field(default_factory=list)
    wanted_by: list[str] = field(default_factory=list)
    capabilities: set[str] = field(default_factory=set)
    size_bytes: int = 0
    layers: int = 0


def complete(
    state: State,
    node_id: NodeId,
    own: OwnFacts,
    members: Members,
    dropped: frozenset[ModelName] = frozenset(),
) -> None:
    """Complete the ``model/`` entries of `state` in place; `dropped` are under a tombstone."""
    found = _elsewhere(members)
    for asked in own.asked_for:
        found[asked].wanted_by.append(node_id)
    for facts in own.on_disk:
        if facts.name in found or f"model/{facts.name}" in state:
            found[facts.name].on_disk.insert(0, node_id)
            found[facts.name].size_bytes = facts.size_bytes
    known = {key.removeprefix("model/") for key in state if key.startswith("model/")}
    shown = known | {name for name, there in found.items() if there.hosts or there.wanted_by}
    for name in shown:
        entry = state.get(f"model/{name}") or _cold(name)
        entry = _with_others(entry, node_id, found[name], state.get("split", {}))
        state[f"model/{name}"] = {**entry, "dropped": name in dropped}


def _elsewhere(members: Members) -> defaultdict[str, _Elsewhere]:
    found: defaultdict[str, _Elsewhere] = defaultdict(_Elsewhere)
    for view in members.present():
        said = view.announcement
        for line in said.serving:
            there = found[line.name]
            if line.state not in _RUNS:
                there.wanted_by.append(view.node_id)
                continue
            load = members.load(view.node_id, ModelName(line.name))
            there.hosts.append(
                {
                    "node_id": view.node_id,
                    "state": line.state,
                    "slots": line.slots,
                    "context": line.context,
                    "in_flight": load.in_flight if load else 0,
                    "tokens_per_s": load.tokens_per_s if load else 0.0,
                    "ttfb_p50_ms": load.ttfb_p50_ms if load else None,
                }
            )
            there.capabilities.update(line.capabilities)
        for disk in said.on_disk:
            found[disk.name].on_disk.append(view.node_id)
            found[disk.name].size_bytes = disk.size_bytes
            found[disk.name].layers = disk.layers or found[disk.name].layers
        _add_workers(view, found)
        for name in said.wanted:
            found[name].wanted_by.append(view.node_id)
    return found


def _add_workers(view: MemberView, found: defaultdict[str, _Elsewhere]) -> None:
    """Name the workers of the splits that this member hosts, with the share of the layers of each."""
    said = view.announcement
    rtts_ms = {line.node_id: line.rtt_ms for line in said.rtts}
    for split in said.splits:
        there = found[split.model]
        total = there.layers or sum(worker.layers for worker in split.workers) or 1
        workers = [
            {
                "node_id": worker.node_id.hex(),
                "layers": worker.layers,
                "share": round(min(1.0, worker.layers / total), 3),
                "via": None,
                "rtt_ms": rtts_ms.get(worker.node_id),
            }
            for worker in split.workers
        ]
        for host in there.hosts:
            if host["node_id"] == view.node_id and workers:
                host["workers"] = workers


def _with_others(entry: Entry, node_id: NodeId, there: _Elsewhere, split: Entry) -> Entry:
    own_host = _own_host(entry, node_id, split)
    hosts = [*own_host, *there.hosts][:NODES_LISTED_MAX]
    warm = [h["node_id"] for h in hosts if h["state"] == ModelState.READY.value]
    status = entry["status"]
    if warm:
        status = "warm"
    elif status == "cold" and any(h["state"] == ModelState.LOADING.value for h in hosts):
        status = "loading"
    return {
        **entry,
        "status": status,
        "node_count": len(warm),
        "nodes": warm,
        "size_bytes": entry["size_bytes"] or there.size_bytes,
        "context": entry["context"] or max((h["context"] for h in hosts), default=0),
        "slots": entry["slots"] or sum(h["slots"] for h in hosts),
        "capabilities": entry["capabilities"] or sorted(there.capabilities),
        "hosts": hosts,
        "on_disk": there.on_disk[:NODES_LISTED_MAX],
        "wanted_by": there.wanted_by[:NODES_LISTED_MAX],
    }


def _own_host(entry: Entry, node_id: NodeId, split: Entry) -> list[dict[str, Any]]:
    if entry["state"] not in ("loading", "ready", "draining"):
        return []
    kept = ("state", "slots", "context", "in_flight", "tokens_per_s", "ttfb_p50_ms")
    host = {"node_id": node_id, **{key: entry[key] for key in kept}}
    if split.get("model") != entry["name"]:
        return [host]
    told = ("node_id", "layers", "share", "via", "rtt_ms")
    others = [e for e in split.get("rpc_entries", ()) if e["node_id"] != node_id]
    return [{**host, "workers": [{key: e.get(key) for key in told} for e in others]}]


def _cold(name: str) -> Entry:
    """Return the entry of a model that this node itself has nothing to do with."""
    return {
        "name": name,
        "title": "",
        "size_bytes": 0,
        "architecture": "",
        "quantisation": "",
        "parameters": 0,
        "layers": 0,
        "capabilities": [],
        "context": 0,
        "slots": 0,
        "phase": "",
        "progress": None,
        "status": "cold",
        "state": "elsewhere",
        "reason": "",
        "draft": None,
        "draft_tokens": 0,
        "draft_acceptance": None,
        "need_bytes": 0,
        "starts": 0,
        "in_flight": 0,
        "requests": 0,
        "tokens": 0,
        "requests_per_s": 0.0,
        "tokens_per_s": 0.0,
        "ttfb_p50_ms": None,
    }
