"""What a cold model would need to be served, in one sentence for people: the ``needed`` of its entry.

The mesh's own answer (`reasons.would_need`), kept until everybody's offers were looked at again: it costs an
election for each cold model. Decides nothing. Source: `snapshot`, the contract of the keys.
"""

from collections.abc import Callable, Iterable
from typing import Any

from nodes.mesh.election import elect
from nodes.mesh.ids import ModelName
from nodes.mesh.offers import MeshSnapshot
from nodes.mesh.reasons import would_need
from nodes.mesh.snapshot import State

NEEDED_MAX = 32
"""Cold models that are explained at a time; further ones have their reason alone."""


class Needed:
    """The latest sentences. Changed by `complete` alone."""

    def __init__(self) -> None:
        self._seen: Any = None
        self._texts: dict[ModelName, str] = {}

    def complete(self, state: State, seen: Any, snapshot: Callable[[], MeshSnapshot]) -> None:
        """Add ``needed`` to the cold models of `state`, in place; asks anew when `seen` is another value."""
        cold = tuple(sorted(_cold(state)))[:NEEDED_MAX]
        if seen != self._seen or any(name not in self._texts for name in cold):
            self._seen = seen
            offers = snapshot() if cold else None
            self._texts = {name: _sentence(offers, name) for name in cold if offers is not None}
        for name in cold:
            if text := self._texts[name]:
                state[f"model/{name}"] = {**state[f"model/{name}"], "needed": text}


def _cold(state: State) -> Iterable[ModelName]:
    return (
        ModelName(entry["name"])
        for key, entry in state.items()
        if key.startswith("model/") and entry["status"] == "cold" and entry["state"] != "drained"
    )


def _sentence(snapshot: MeshSnapshot, model: ModelName) -> str:
    text = would_need(snapshot, elect(snapshot, model))
    if not text or model in snapshot.dropped:
        return f"{text[:1].upper()}{text[1:]}." if text else ""
    return f"It needs {text}."
