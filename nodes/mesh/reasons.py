"""The last decisions with their reasons: what `mesh-llm why MODEL` and the console tell.

Keeps a bounded ring of what was decided and says, for a model that nobody serves, what would be needed.
Decides nothing. Source: spec, issue 4 (each answer with its reasons).
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nodes.mesh.election import Election, Mode
from nodes.mesh.ids import ModelName
from nodes.mesh.offers import MeshSnapshot
from nodes.mesh.placement import gb
from nodes.mesh.routing import ModelState, Upstream
from nodes.mesh.split import Verdict

DECISIONS_MAX = 128
"""Decisions kept, over all models; the oldest goes first."""

DECISIONS_SHOWN_MAX = 16
"""Decisions about one model that are shown, the latest first."""

TERMS_MAX = 512
"""Models whose changes of outcome are counted; the one counted first goes first."""

VERDICTS_MAX = 64
"""Nodes whose verdict is kept with a decision; those accepted come first."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision about one model, as this node took it."""

    at_unix_s: float
    model: ModelName
    kind: str
    """``solo``, ``split``, ``wait``, ``defer``, ``assigned``, ``standby``, ``dropped`` ..."""
    term: int
    """How often the outcome for this model has changed here, this one included."""
    text: str
    verdicts: tuple[Verdict, ...] = ()


class Reasons:
    """The ring. Changed by `note` alone."""

    def __init__(self) -> None:
        self.now_unix_s = 0.0
        """Set by the node before anything is noted."""
        self._ring: deque[Decision] = deque(maxlen=DECISIONS_MAX)
        self._terms: Counter[ModelName] = Counter()

    def note(
        self, model: ModelName, kind: str, text: str, verdicts: tuple[Verdict, ...] = ()
    ) -> None:
        """Keep a decision: the outcome for this model has changed."""
        while len(self._terms) > TERMS_MAX:
            del self._terms[next(iter(self._terms))]
        self._terms[model] += 1
        term = self._terms[model]
        self._ring.append(Decision(self.now_unix_s, model, kind, term, text, bounded(verdicts)))

    def note_election(self, election: Election, hosting: bool) -> None:
        """Keep the outcome of an election."""
        left = election.mode is Mode.SOLO and not hosting
        kind = "defer" if left else election.mode.value
        self.note(election.model, kind, election.text, election.verdicts)

    def about(self, model: ModelName) -> tuple[Decision, ...]:
        """Return the decisions about a model, the latest first."""
        found = [d for d in reversed(self._ring) if d.model == model]
        return tuple(found[:DECISIONS_SHOWN_MAX])


def why(reasons: Reasons, snapshot: MeshSnapshot, election: Election) -> dict[str, Any]:
    """Return all that is known of why a model is served as it is, as plain values.

    ``{model, mode, text, term, need_bytes, have_bytes, forced, dropped, hosts: [node id],
    candidates: [{node_id, name, accepted, reason}], would_need, history: [{at, kind, term, text}]}``.
    """
    model = election.model
    history = reasons.about(model)
    verdicts = bounded(election.verdicts)
    return {
        "model": model,
        "mode": election.mode.value,
        "text": election.text,
        "term": history[0].term if history else 0,
        "need_bytes": election.need_bytes,
        "have_bytes": election.have_bytes,
        "forced": election.forced,
        "dropped": model in snapshot.dropped,
        "hosts": list(election.hosts),
        "candidates": [
            {"node_id": v.node_id, "name": v.name, "accepted": v.accepted, "reason": v.sentence}
            for v in verdicts
        ],
        "would_need": would_need(snapshot, election),
        "history": [
            {"at": round(d.at_unix_s, 1), "kind": d.kind, "term": d.term, "text": d.text}
            for d in history
        ],
    }


def why_by_table(model: ModelName, upstreams: Iterable[Upstream]) -> dict[str, Any]:
    """Return the same of a client: it knows from its table who answers, and of the others nothing."""
    lines = sorted((u for u in upstreams if u.model == model), key=lambda u: (u.name, u.node_id))
    hosts = [u for u in lines if u.state is ModelState.READY]
    names = ", ".join(u.shown for u in hosts)
    text = f"it is answered by {names}" if hosts else f"no node answers {model} now"
    return {
        "model": model,
        "mode": (Mode.SOLO if hosts else Mode.NOBODY).value,
        "text": text,
        "term": 0,
        "need_bytes": 0,
        "have_bytes": 0,
        "forced": False,
        "dropped": False,
        "hosts": [u.node_id for u in hosts],
        "candidates": [
            {
                "node_id": u.node_id,
                "name": u.name,
                "accepted": u.state is ModelState.READY,
                "reason": f"on {u.shown} it is {u.state.value}",
            }
            for u in lines[:VERDICTS_MAX]
        ],
        "would_need": ""
        if hosts
        else "ask a full member, which knows every node: a client does not",
        "history": [],
    }


def bounded(verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    """Return at most `VERDICTS_MAX`, the accepted ones first."""
    return tuple(sorted(verdicts, key=lambda v: not v.accepted))[:VERDICTS_MAX]


def would_need(snapshot: MeshSnapshot, election: Election) -> str:
    """Return what would have to be there for a cold model to be served; empty: it is, or will be."""
    model = election.model
    if model in snapshot.dropped:
        return f"it was dropped: `mesh-llm load {model}` brings it back"
    if election.mode in (Mode.SOLO, Mode.SPLIT):
        return ""
    need = _least_need(snapshot, model)
    if need is None:
        return "a node that has its file, or a name of the catalogue (`mesh-llm models`)"
    missing = need - max(election.have_bytes, _most_free(snapshot))
    wanted = (
        f"{gb(missing)} more memory" if missing > 0 else f"a free node with its file ({gb(need)})"
    )
    like = [o for o in snapshot.offers.values() if o.engine and o.memory_bytes >= need]
    if like:
        least = min(like, key=lambda o: (o.memory_bytes, o.node_id))
        return f"{wanted}, or one node like {least.name}"
    return wanted


def _least_need(snapshot: MeshSnapshot, model: ModelName) -> int | None:
    needs = (offer.need_bytes(model) for offer in snapshot.offers.values())
    return min((need for need in needs if need is not None), default=None)


def _most_free(snapshot: MeshSnapshot) -> int:
    return max((offer.memory_bytes for offer in snapshot.free), default=0)
