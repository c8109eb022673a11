"""The other nodes, as the serving half of this one sees them: the last view of each, and what is shown.

Decides how a member's state is called for people and how long one that is gone stays in sight. What is
true about membership is decided by `gossip`; this is its echo, kept by `MeshNode` alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nodes.mesh.announcement import MIB, Announcement
from nodes.mesh.engine_load import NO_LOAD, EngineLoad, NodeLoad, decode
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.model_facts import Capability
from nodes.mesh.routing import ModelState, Upstream
from nodes.mesh.snapshot import Entry, State

GONE_SHOWN_S = 300.0
"""How long a node that died or left stays in sight: time to read what happened."""
GONE_MAX = 256
"""Nodes that are gone and still shown; the one gone longest goes first."""

_GONE = (MemberState.DEAD, MemberState.LEFT)


@dataclass(frozen=True, slots=True)
class Seen:
    """One other node, and since when it is so."""

    view: MemberView
    state: str
    """``alive``, ``late``, ``suspect``, ``dead`` or ``left``."""
    since_s: float
    """Monotonic seconds of the last change of `state`."""
    load: NodeLoad = NO_LOAD
    """What its engines are doing, as it said last."""


class Members:
    """The table's echo. Changed by `take` and the `forget` functions alone."""

    def __init__(self) -> None:
        self._seen: dict[NodeId, Seen] = {}
        self._gone: dict[NodeId, Seen] = {}

    def take(self, changed: Iterable[MemberView], now: float) -> None:
        """Replace the views that gossip published."""
        for view in changed:
            state = shown_state(view)
            before = self._seen.pop(view.node_id, None) or self._gone.pop(view.node_id, None)
            since_s = before.since_s if before is not None and before.state == state else now
            kept = self._gone if view.state in _GONE else self._seen
            kept[view.node_id] = Seen(view, state, since_s, decode(view.load))
        while len(self._gone) > GONE_MAX:
            del self._gone[next(iter(self._gone))]

    def replace(self, views: Iterable[MemberView], now: float) -> None:
        """Hold these and nobody else: a client's table."""
        views = tuple(views)
        left = self._seen.keys() - {view.node_id for view in views}
        for node_id in left:
            del self._seen[node_id]
        self.take(views, now)

    def forget_gone(self, now: float) -> bool:
        """Let go of who is gone long enough; return whether anybody was."""
        old = [i for i, seen in self._gone.items() if now - seen.since_s >= GONE_SHOWN_S]
        for node_id in old:
            del self._gone[node_id]
        return bool(old)

    def forget(self, node_id: NodeId) -> bool:
        """Take one that is gone out of sight; return whether it was there."""
        return self._gone.pop(node_id, None) is not None

    def clear(self) -> None:
        """Forget everybody: this node is in another mesh now."""
        self._seen.clear()
        self._gone.clear()

    @property
    def gone_until(self) -> float | None:
        """When the next one that is gone goes out of sight; None: nobody is."""
        return min((s.since_s + GONE_SHOWN_S for s in self._gone.values()), default=None)

    def present(self) -> Iterator[MemberView]:
        """Yield the members: alive or suspect."""
        return (seen.view for seen in self._seen.values())

    def get(self, node_id: NodeId) -> MemberView | None:
        """Return a member's view; None when it is not one now."""
        seen = self._seen.get(node_id)
        return seen.view if seen else None

    def load(self, node_id: NodeId, model: ModelName) -> EngineLoad | None:
        """Return what a node's engine for this model is doing; None: it did not tell."""
        seen = self._seen.get(node_id)
        return seen.load.of(model) if seen else None

    def __len__(self) -> int:
        return len(self._seen)

    def entries(self, clock_offset_s: float) -> State:
        """Return the ``peer/`` entries; `clock_offset_s` turns monotonic into Unix seconds."""
        every = [*self._seen.values(), *self._gone.values()]
        return {f"peer/{s.view.node_id}": _entry(s, clock_offset_s) for s in every}

    def upstreams(self) -> Iterator[Upstream]:
        """Yield every engine of the other nodes, whatever its state."""
        for seen in self._seen.values():
            view = seen.view
            for line in view.announcement.serving:
                if line.state in _STATES:
                    yield Upstream(
                        node_id=view.node_id,
                        model=ModelName(line.name),
                        state=_STATES[line.state],
                        host=None,
                        port=None,
                        slots=line.slots,
                        context=line.context,
                        capabilities=frozenset(
                            _CAPABILITIES[c] for c in line.capabilities if c in _CAPABILITIES
                        ),
                        name=view.announcement.name,
                        rank_last=view.rank_last,
                        # How far it is, not how busy: a machine that just started answers its first
                        # probes late, and would not be asked until its load says otherwise.
                        rtt_ms=_milliseconds(view.rtt_least_s),
                        load=seen.load.of(ModelName(line.name)),
                    )


_STATES = {state.value: state for state in ModelState}
_CAPABILITIES = {capability.value: capability for capability in Capability}


def shown_state(view: MemberView) -> str:
    """Return a member's state as one word for people."""
    if view.state is MemberState.ALIVE:
        return "late" if view.rank_last else "alive"
    return view.state.value


def _milliseconds(rtt_s: float | None) -> float | None:
    # Two digits: a figure that trembles would be a change each time it is looked at.
    return None if rtt_s is None else float(f"{rtt_s * 1000:.2g}")


def _used_gb(said: Announcement) -> float:
    """Return what its engines were planned with, as far as it says: the least that each model needs."""
    live = {line.name for line in said.serving if line.state in ("ready", "loading", "draining")}
    return round(sum(d.need_mib * MIB for d in said.on_disk if d.name in live) / 1e9, 2)


def _entry(seen: Seen, clock_offset_s: float) -> Entry:
    view, said = seen.view, seen.view.announcement
    gone = view.state in _GONE
    found = (seen.load.of(ModelName(line.name)) for line in said.serving if not gone)
    loads = [load for load in found if load is not None]
    return {
        "id": view.node_id,
        "name": said.name or view.node_id[:8],
        "role": said.role,
        "state": seen.state,
        "serving": [] if gone else [line.name for line in said.serving if line.state == "ready"],
        "vram_gb": 0.0 if gone else round(said.memory_bytes / 1e9, 2),
        "rtt_ms": None if gone else _milliseconds(view.rtt_s),
        "version": said.software,
        "addresses": list(said.addresses),
        "on_disk": [line.name for line in said.on_disk],
        "wanted": list(said.wanted),
        "used_gb": 0.0 if gone else _used_gb(said),
        "in_flight": sum(load.in_flight for load in loads),
        "tokens_per_s": round(sum(load.tokens_per_s for load in loads), 1),
        "lane": None,
        "since": round(seen.since_s + clock_offset_s, 1),
    }
