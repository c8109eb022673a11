"""Which paths the API knows, and what becomes of each. Everything else is 404.

PURE. The passed ones are llama-server's own under /v1 (0.5.0 to 0.7.0); its endpoints outside /v1
(/props, /slots, /completion ...) are not here, so nothing reaches them.
"""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a path does."""

    MODELS = "models"
    HEALTH = "health"
    METRICS = "metrics"
    HINT = "hint"
    JSON = "json"
    """Passed on; the body is a JSON object whose model routes it."""
    EMBEDDINGS = "embeddings"
    """As JSON, and `auto` prefers models made for embeddings."""
    FORM = "form"
    """Passed on; the body is multipart and may hold a model field."""
    OPAQUE = "opaque"
    """Passed on unread, to the model that `auto` means."""


@dataclass(frozen=True, slots=True)
class Route:
    """One path."""

    kind: Kind
    methods: tuple[str, ...]
    label: str
    """The path as metrics and records name it."""
    needs_key: bool = True


_READ = ("GET", "HEAD")
_JSON = (
    "chat/completions",
    "chat/completions/input_tokens",
    "completions",
    "responses",
    "responses/input_tokens",
    "messages",
    "messages/count_tokens",
)


def _routes() -> dict[str, Route]:
    routes = {
        "/": Route(Kind.HINT, _READ, "/", needs_key=False),
        "/health": Route(Kind.HEALTH, _READ, "/health", needs_key=False),
        "/v1/health": Route(Kind.HEALTH, _READ, "/v1/health", needs_key=False),
        "/metrics": Route(Kind.METRICS, _READ, "/metrics"),
        "/v1/models": Route(Kind.MODELS, _READ, "/v1/models"),
        "/v1/audio/transcriptions": Route(Kind.FORM, ("POST",), "/v1/audio/transcriptions"),
        "/v1/stream": Route(Kind.OPAQUE, ("GET", "DELETE"), "/v1/stream"),
    }
    for name in ("embeddings", "rerank", "reranking"):
        routes[f"/v1/{name}"] = Route(Kind.EMBEDDINGS, ("POST",), f"/v1/{name}")
    for name in _JSON:
        routes[f"/v1/{name}"] = Route(Kind.JSON, ("POST",), f"/v1/{name}")
    for name in ("chat/completions/control", "streams/lookup", "systemone"):
        routes[f"/v1/{name}"] = Route(Kind.OPAQUE, ("POST",), f"/v1/{name}")
    return routes


ROUTES = _routes()
"""Path to route; `/v1/models/{id}` is the only one with a parameter."""

MODELS_PREFIX = "/v1/models/"
_ONE_MODEL = Route(Kind.MODELS, _READ, "/v1/models/{id}")


def find(path: str) -> Route | None:
    """Return the route of a decoded path, or None."""
    route = ROUTES.get(path)
    if route is None and path.startswith(MODELS_PREFIX) and len(path) > len(MODELS_PREFIX):
        return _ONE_MODEL
    return route
