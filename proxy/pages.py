"""The answers that the API makes itself: model list, health, metrics and the hint at `/`.

PURE but for rendering the metrics' registry.
"""

from dataclasses import dataclass

import msgspec

from nodes.mesh.routing import (
    Candidates,
    ModelState,
    RequestNeeds,
    RoutingTable,
    candidates,
)
from proxy.metrics import CONTENT_TYPE, ApiMetrics
from proxy.openai import Fault, FaultKind, refusal_fault
from proxy.paths import MODELS_PREFIX


@dataclass(frozen=True, slots=True)
class Page:
    """A small whole answer."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def _json(status: int, value: object, *more: tuple[bytes, bytes]) -> Page:
    body = msgspec.json.encode(value)
    length = (b"content-length", b"%d" % len(body))
    return Page(status, ((b"content-type", b"application/json"), length, *more), body)


def models(table: RoutingTable, path: str) -> Page:
    """Return `/v1/models`, or one model of it. Raises Fault for a model that is not served."""
    if path.startswith(MODELS_PREFIX):
        asked = path[len(MODELS_PREFIX) :]
        found = candidates(table, RequestNeeds(asked))
        if asked.casefold() == "auto" or not isinstance(found, Candidates):
            if isinstance(found, Candidates):
                raise Fault(FaultKind.UNKNOWN_MODEL, "'auto' is a choice, not a model.", "model")
            raise refusal_fault(found, 2)
        return _json(200, _model(table, found.model))
    data = [_model(table, name) for name in table.served_names()]
    return _json(200, {"object": "list", "data": data})


def _model(table: RoutingTable, name: str) -> dict[str, object]:
    context = max((u.context for u in table.ready() if u.model == name), default=0)
    return {
        "id": name,
        "object": "model",
        "created": table.created_s,
        "owned_by": "mesh-llm",
        "context_length": context,
    }


def health(table: RoutingTable, retry_after_s: int, *, stopping: bool) -> Page:
    """Return 200 once a model can answer; else 503 with the state and how far loading is."""
    served = list(table.served_names())
    retry = (b"retry-after", b"%d" % retry_after_s)
    if stopping:
        return _json(503, {"status": "stopping", "models": served}, retry)
    if served:
        return _json(200, {"status": "ok", "models": served})
    for upstream in table.upstreams:
        if upstream.state is ModelState.LOADING:
            body: dict[str, object] = {"status": "loading", "models": [], "model": upstream.model}
            body.update(progress=upstream.progress, phase=upstream.phase)
            return _json(503, body, retry)
    return _json(503, {"status": "no_model", "models": []}, retry)


def metrics(source: ApiMetrics) -> Page:
    """Return the metrics in Prometheus' text format."""
    body = source.render()
    length = (b"content-length", b"%d" % len(body))
    return Page(200, ((b"content-type", CONTENT_TYPE.encode("ascii")), length), body)


def hint(node_id: str) -> Page:
    """Return what `/` says: what this is and where to go."""
    return _json(
        200,
        {
            "service": "mesh-llm",
            "node": node_id,
            "api": "/v1",
            "models": "/v1/models",
            "health": "/health",
            "metrics": "/metrics",
        },
    )
