"""What viewers see of this node's part in splits: its ``split`` entry.

Pure. Source: `snapshot`, the contract of the keys; spec, Console HTTP (`rpc_entries`, `tensor_split`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from nodes.mesh.announcement import MIB, Announcement
from nodes.mesh.events import LaneLine
from nodes.mesh.ids import NodeId
from nodes.mesh.plans import WorkerPlan
from nodes.mesh.serving import Serving
from nodes.mesh.snapshot import Entry, State
from nodes.mesh.split_seats import Seat

_NO_LANE = LaneLine(NodeId(""), "lane")


def split_entry(
    me: NodeId, serving: Serving, lane: Iterable[LaneLine], works_for: WorkerPlan | None
) -> Entry:
    """Return the ``split`` entry: the engine's parts, this host's first."""
    lines = {line.peer: line for line in lane}
    for name, slot in serving.slots.items():
        if slot.run is None or slot.run.plan.split is None:
            continue
        seats = slot.run.seats
        load = serving.load.get(name)
        return {
            "model": name,
            "rpc_entries": [_part(me, seat, lines) for seat in seats],
            "tensor_split": [seat.share for seat in seats],
            "reason": f"{name} runs over {len(seats)} nodes",
            "tokens_per_s": load.tokens_per_s if load else 0.0,
            "expected_tokens_per_s": expected_tokens_per_s(slot.solo_tokens_per_s, seats),
        }
    running = any(slot.run for slot in serving.slots.values())
    entries = [{"node_id": me, "via": "local", "share": 1.0}] if running else []
    entry: Entry = {"rpc_entries": entries, "tensor_split": None}
    if works_for is not None:
        entry |= {
            "model": works_for.model,
            "reason": f"works for the split of {serving.lent_to or works_for.host[:8]}",
            "works_for": {
                "node_id": works_for.host,
                "layers": works_for.layers,
                **_traffic(lines.get(works_for.host, _NO_LANE)),
            },
        }
    return entry


def show_lanes(state: State, lane: Iterable[LaneLine]) -> None:
    """Say in the ``peer/`` entries of `state` which lane is in use with whom, in place."""
    for line in lane:
        key = f"peer/{line.peer}"
        if key in state:
            state[key] = {**state[key], "lane": "tcp" if line.via == "lane" else line.via}


def show_memory(state: State, me: NodeId, said: Mapping[NodeId, Announcement]) -> None:
    """Say in `state`, in place, what splits take of each machine: a worker's layers of it, and the rest at
    the host. `said` is what the hosts of splits say of themselves."""
    for host, words in said.items():
        for split in words.splits:
            disk = next((line for line in words.on_disk if line.name == split.model), None)
            if disk is None or not disk.layers:
                continue
            layer_bytes = disk.need_mib * MIB // disk.layers
            for worker in split.workers:
                part_bytes = layer_bytes * worker.layers
                _add_used(state, me, NodeId(worker.node_id.hex()), part_bytes)
                if host != me:  # What this node's own engine takes is known exactly.
                    _add_used(state, me, host, -part_bytes)


def _add_used(state: State, me: NodeId, node: NodeId, more_bytes: int) -> None:
    key = "resources" if node == me else f"peer/{node}"
    entry = state.get(key)
    if entry is None:
        return
    if node == me:
        state[key] = {**entry, "used_bytes": max(0, entry["used_bytes"] + more_bytes)}
    else:
        used_gb = round(max(0.0, entry["used_gb"] + more_bytes / 1e9), 2)
        state[key] = {**entry, "used_gb": used_gb}


def expected_tokens_per_s(solo: float | None, seats: Iterable[Seat]) -> float | None:
    """Return what one stream of a split should reach, from what it reached alone here; None: not known.

    Formula: each token takes its time alone, and one round trip to every worker. Workers are taken to be
    as fast as the host, so a slower figure points at a slow worker or link.
    """
    if not solo:
        return None
    return round(1 / (1 / solo + sum((seat.rtt_ms or 0.0) / 1000 for seat in seats)), 1)


def _part(me: NodeId, seat: Seat, lines: dict[NodeId, LaneLine]) -> dict[str, Any]:
    part: dict[str, Any] = {"node_id": seat.node_id, "share": seat.share, "layers": seat.layers}
    if seat.node_id == me:
        return {**part, "via": "local", "rtt_ms": None}
    return {**part, "rtt_ms": seat.rtt_ms, **_traffic(lines.get(seat.node_id, _NO_LANE))}


def _traffic(line: LaneLine) -> dict[str, Any]:
    return {
        "via": line.via,
        "bytes_sent": line.bytes_sent,
        "bytes_saved": line.bytes_saved,
        "bytes_per_s": line.bytes_per_s,
        "loaded_bytes": line.loaded_bytes,
        "expected_bytes": line.expected_bytes,
    }
