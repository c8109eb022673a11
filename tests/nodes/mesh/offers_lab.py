"""Offers and snapshots for tests of the mesh's decisions: sizes in decimal GB, names for ids."""

import hashlib
from collections.abc import Iterable
from typing import Any

from nodes.mesh.causes import Cause
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.offers import Line, MeshSnapshot, Offer, OnDisk, Rate, Split, Work

GB = 1_000_000_000


def node_id(name: str) -> NodeId:
    """Return a node's id: the same for the same name."""
    return NodeId(hashlib.sha256(name.encode()).hexdigest())


def offer(
    name: str,
    memory_gb: float = 16.0,
    *,
    serves: dict[str, str] | None = None,
    cause: Cause = Cause.OWN,
    disk: dict[str, float] | None = None,
    wishes: Iterable[str] = (),
    busy: dict[str, int] | None = None,
    rtts: dict[str, float] | None = None,
    layers: int = 36,
    slots: int = 4,
    **more: Any,
) -> Offer:
    """Return a node; `serves` maps models to states, `disk` models to the GB that serving them needs."""
    more.setdefault("engine", "0.7.0")
    more.setdefault("rpc_version", "8")
    return Offer(
        node_id=node_id(name),
        name=name,
        memory_bytes=int(memory_gb * GB),
        lines={
            ModelName(m): Line(state, slots, cause.value) for m, state in (serves or {}).items()
        },
        on_disk={
            ModelName(m): OnDisk(int(need * 0.9 * GB), int(need * GB), layers)
            for m, need in (disk or {}).items()
        },
        wishes=tuple(ModelName(w) for w in wishes),
        rates={ModelName(m): Rate(60, percent) for m, percent in (busy or {}).items()},
        rtts_ms={node_id(peer): rtt for peer, rtt in (rtts or {}).items()},
        **more,
    )


def splits(model: str, term: int, *workers: str) -> dict[ModelName, Split]:
    """Return what a split's host announces."""
    return {ModelName(model): Split(term, tuple((node_id(w), 10) for w in workers))}


def works(model: str, host: str, term: int, ready: bool = True) -> dict[ModelName, Work]:
    """Return what a worker announces."""
    return {ModelName(model): Work(node_id(host), term, ready)}


def snapshot(*offers: Offer, me: str = "", **more: Any) -> MeshSnapshot:
    """Return a snapshot as the node of this name sees it; default: the first."""
    for key in ("lost", "dropped"):
        more[key] = frozenset(ModelName(name) for name in more.get(key, ()))
    more["catalogue"] = {
        ModelName(name): int(gb * GB) for name, gb in more.get("catalogue", {}).items()
    }
    seen = {o.node_id: o for o in offers}
    return MeshSnapshot(node_id(me) if me else offers[0].node_id, seen, **more)
