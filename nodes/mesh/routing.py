"""Which engine may answer a request: a pure function of an immutable table.

Decides the candidates and their order for one request. Does not know sockets, retries or bodies:
`proxy.forward` walks the candidates. Names match exactly, then without case, then by unambiguous
prefix (spec, Command line).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.model_facts import Capability

AUTO = "auto"
"""The model name that leaves the choice to the mesh; so does an absent name."""


class ModelState(StrEnum):
    """How far a model is on one node. Only READY answers requests."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One engine that serves one model."""

    node_id: NodeId
    model: ModelName
    state: ModelState
    host: str | None
    """Where the engine listens, when it is this node's own; None: through the peer link."""
    port: int | None
    slots: int
    context: int
    """Tokens a single request may use."""
    capabilities: frozenset[Capability]
    progress: float | None = None
    """0 to 1 while LOADING, where it is known."""
    phase: str = ""
    name: str = ""
    """What people call the node; empty: not known."""
    rank_last: bool = False
    """True: the node missed a probe or is suspect; used only when nobody else is left."""
    rtt_ms: float | None = None
    """Round trip to the node; None: it is this one, or was never measured."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All that routing knows at one moment. Replaced whole, never changed."""

    node_id: NodeId
    upstreams: tuple[Upstream, ...] = ()
    created_s: int = 0
    """Unix time of the table, for `/v1/models`."""

    def ready(self) -> tuple[Upstream, ...]:
        """Return the upstreams that can answer now."""
        return tuple(u for u in self.upstreams if u.state is ModelState.READY)

    def served_names(self) -> tuple[ModelName, ...]:
        """Return the names that `/v1/models` lists: a model is listed once it can answer."""
        return tuple(sorted({u.model for u in self.ready()}))


@dataclass(frozen=True, slots=True)
class RequestNeeds:
    """What routing must know of a request. Everything else stays in the body."""

    model: str | None
    """The request's `model` field; None or ``auto``: the mesh chooses."""
    capabilities: frozenset[Capability] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Who may answer, best first. Never empty."""

    model: ModelName
    upstreams: tuple[Upstream, ...]


class RefusalKind(StrEnum):
    """Why nobody can answer now; `proxy.openai` maps each to one HTTP answer."""

    UNKNOWN_MODEL = "model_not_found"
    AMBIGUOUS_MODEL = "model_ambiguous"
    NOTHING_SERVED = "nothing_served"
    LOADING = "model_loading"


@dataclass(frozen=True, slots=True)
class Refusal:
    """No candidate, and why."""

    kind: RefusalKind
    model: str
    """The name asked for, or the one that is loading."""
    served: tuple[ModelName, ...]
    progress: float | None = None
    phase: str = ""


def match_name(asked: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the one name meant by `asked`, none, or all that an ambiguous prefix could mean."""
    known = tuple(sorted(set(names)))
    if asked in known:
        return (asked,)
    folded = asked.casefold()
    tests: tuple[Callable[[str], bool], ...] = (
        lambda name: name.casefold() == folded,
        lambda name: name.casefold().startswith(folded),
    )
    for test in tests:
        found = tuple(name for name in known if test(name))
        if found:
            return found
    return ()


def candidates(table: RoutingTable, needs: RequestNeeds) -> Candidates | Refusal:
    """Return who may answer, best first, or why nobody can."""
    ready = table.ready()
    if needs.model is None or needs.model.casefold() == AUTO:
        return _any_model(table, ready, needs)
    served = table.served_names()
    matches = match_name(needs.model, (u.model for u in ready))
    if len(matches) == 1:
        name = ModelName(matches[0])
        return Candidates(name, _in_order(u for u in ready if u.model == name))
    if len(matches) > 1:
        names = tuple(ModelName(m) for m in matches)
        return Refusal(RefusalKind.AMBIGUOUS_MODEL, needs.model, names)
    loading = _loading(table, needs.model)
    if loading is not None:
        return Refusal(RefusalKind.LOADING, loading.model, served, loading.progress, loading.phase)
    if not any(u.state in (ModelState.READY, ModelState.LOADING) for u in table.upstreams):
        return Refusal(RefusalKind.NOTHING_SERVED, needs.model, served)
    return Refusal(RefusalKind.UNKNOWN_MODEL, needs.model, served)


def _in_order(able: Iterable[Upstream]) -> tuple[Upstream, ...]:
    """Return this node's own engine first, then the others, those that rank last at the end."""
    return tuple(sorted(able, key=lambda u: (u.rank_last, u.host is None)))


def _any_model(
    table: RoutingTable, ready: tuple[Upstream, ...], needs: RequestNeeds
) -> Candidates | Refusal:
    able = [u for u in ready if needs.capabilities <= u.capabilities] or list(ready)
    if able:
        best = max(able, key=lambda u: (u.context, u.slots, u.model)).model
        return Candidates(best, _in_order(u for u in able if u.model == best))
    for upstream in table.upstreams:
        if upstream.state is ModelState.LOADING:
            return Refusal(
                RefusalKind.LOADING, upstream.model, (), upstream.progress, upstream.phase
            )
    return Refusal(RefusalKind.NOTHING_SERVED, needs.model or AUTO, ())


def _loading(table: RoutingTable, asked: str) -> Upstream | None:
    loading = {u.model: u for u in table.upstreams if u.state is ModelState.LOADING}
    matches = match_name(asked, loading)
    return loading[ModelName(matches[0])] if len(matches) == 1 else None
