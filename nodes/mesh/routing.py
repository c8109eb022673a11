"""Which engines may answer a request: a pure function of an immutable table.

Decides the model that a request means, who serves it, and who of them only in need. Which of the hosts
comes first now is `routing_order`'s matter, trying them `proxy.walk`'s. Names match exactly, then
without case, then by unambiguous prefix (spec, Command line); a path or a file's name means its stem.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import msgspec

from nodes.mesh.engine_load import EngineLoad
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.model_facts import Capability

AUTO = "auto"
"""The model name that leaves the choice to the mesh; so does an absent name."""

_FILE_ENDING = re.compile(r"(?:-\d{5}-of-\d{5})?(?:\.gguf)?$", re.IGNORECASE)
"""What a file's name has beyond its stem, sharded or not."""


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
    """The node's display name, for people; empty: not known."""
    rank_last: bool = False
    """The node is suspect, or missed its latest probe: only when nobody else is left."""
    rtt_ms: float | None = None
    """Round trip to the node; None: this node, or not measured."""
    load: EngineLoad | None = None
    """What the node last said of this engine's load; None: nothing."""

    @property
    def key(self) -> "HostKey":
        """What tells this engine from every other of the mesh."""
        return self.node_id, self.model

    @property
    def shown(self) -> str:
        """The node as people are told of it: its name, if known, and the start of its id."""
        short = self.node_id[:NODE_ID_SHOWN]
        return f"{self.name} ({short})" if self.name else short


HostKey = tuple[NodeId, ModelName]
"""One model on one node: what has a load, a breaker and a past."""

NODE_ID_SHOWN = 12
"""Hex digits of a node id that people are shown."""


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


class RequestNeeds(msgspec.Struct, frozen=True, gc=False):
    """What routing must know of a request. Everything else stays in the body.

    Made and hashed for each one, which a struct does in a fraction of a dataclass's time.
    """

    model: str | None
    """The request's `model` field; None or ``auto``: the mesh chooses."""
    capabilities: frozenset[Capability] = frozenset()
    context: int = 0
    """Tokens that the prompt may take: estimated high, so it ranks hosts and refuses nobody."""


class Standing(IntEnum):
    """How far a host is fit for a request, as the table alone says; the lower the better."""

    ABLE = 0
    DOUBTFUL = 1
    """Too little context for what the prompt may take, or it does not claim what the request needs."""
    LAST = 2
    """Its node is suspect or late: tried when nobody else is left, with a short deadline."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Who may answer, by standing. Never empty."""

    model: ModelName
    upstreams: tuple[Upstream, ...]
    standings: tuple[Standing, ...]
    """Of the upstream at the same place; ascending."""


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


def file_stem(asked: str) -> str:
    """Return the stem that a model file's path or name stands for; other names as they are."""
    return _FILE_ENDING.sub("", asked.rpartition("/")[2], count=1)


def candidates(table: RoutingTable, needs: RequestNeeds) -> Candidates | Refusal:
    """Return who may answer, by standing, or why nobody can."""
    ready = table.ready()
    if needs.model is None or needs.model.casefold() == AUTO:
        return _any_model(table, ready, needs)
    served = table.served_names()
    matches = _meant(needs.model, served)
    if len(matches) == 1:
        return _hosts(ModelName(matches[0]), ready, needs)
    if len(matches) > 1:
        names = tuple(ModelName(m) for m in matches)
        return Refusal(RefusalKind.AMBIGUOUS_MODEL, needs.model, names)
    loading = _loading(table, needs.model)
    if loading is not None:
        return Refusal(RefusalKind.LOADING, loading.model, served, loading.progress, loading.phase)
    if not any(u.state in (ModelState.READY, ModelState.LOADING) for u in table.upstreams):
        return Refusal(RefusalKind.NOTHING_SERVED, needs.model, served)
    return Refusal(RefusalKind.UNKNOWN_MODEL, needs.model, served)


def standing(upstream: Upstream, needs: RequestNeeds) -> Standing:
    """Return how far this host is fit for such a request."""
    if upstream.rank_last:
        return Standing.LAST
    able = not _lacking(upstream, needs) and needs.context <= upstream.context
    return Standing.ABLE if able else Standing.DOUBTFUL


def _lacking(upstream: Upstream, needs: RequestNeeds) -> int:
    """Return how many of the needs the host does not claim to meet."""
    has = upstream.capabilities
    only_embeds = Capability.EMBEDDINGS in has and Capability.CHAT not in has
    wrong_kind = only_embeds and Capability.EMBEDDINGS not in needs.capabilities
    return len(needs.capabilities - has) + wrong_kind


def _hosts(model: ModelName, ready: tuple[Upstream, ...], needs: RequestNeeds) -> Candidates:
    found = sorted(
        ((standing(u, needs), number, u) for number, u in enumerate(ready) if u.model == model),
        key=lambda entry: entry[:2],
    )
    return Candidates(model, tuple(e[2] for e in found), tuple(e[0] for e in found))


def _any_model(
    table: RoutingTable, ready: tuple[Upstream, ...], needs: RequestNeeds
) -> Candidates | Refusal:
    """The best loaded match: fit, then the most of the needs met, then the longest context."""
    if ready:
        # The name decides between equals, so that every node chooses alike.
        best = max(
            ready,
            key=lambda u: (
                -standing(u, needs),
                -_lacking(u, needs),
                u.context,
                u.slots,
                u.model,
            ),
        )
        return _hosts(best.model, ready, needs)
    for upstream in table.upstreams:
        if upstream.state is ModelState.LOADING:
            return Refusal(
                RefusalKind.LOADING, upstream.model, (), upstream.progress, upstream.phase
            )
    return Refusal(RefusalKind.NOTHING_SERVED, needs.model or AUTO, ())


def _meant(asked: str, names: Iterable[str]) -> tuple[str, ...]:
    known = tuple(names)
    stem = file_stem(asked)
    return match_name(asked, known) or (match_name(stem, known) if stem else ())


def _loading(table: RoutingTable, asked: str) -> Upstream | None:
    loading = {u.model: u for u in table.upstreams if u.state is ModelState.LOADING}
    matches = _meant(asked, loading)
    return loading[ModelName(matches[0])] if len(matches) == 1 else None
