"""The API's Prometheus metrics, in a registry of their own.

Labels are bounded: a model becomes a label only when an engine served it, and at most `MODELS_MAX`
do; names that clients make up never do.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from proxy.records import Outcome, RequestRecord

MODELS_MAX = 64
"""Model labels; further models are counted under ``other``."""
CONTENT_TYPE = CONTENT_TYPE_LATEST
_TTFB_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class ApiMetrics:
    """Counts what the API did."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._requests = Counter(
            "mesh_llm_requests",
            "Finished requests.",
            ("model", "path", "status", "outcome"),
            registry=registry,
        )
        self._tokens = Counter(
            "mesh_llm_tokens", "Tokens generated.", ("model",), registry=registry
        )
        self._retries = Counter(
            "mesh_llm_retries", "Candidates that failed before another answered.", registry=registry
        )
        self._ttfb = Histogram(
            "mesh_llm_time_to_first_byte_seconds",
            "From a request's arrival to the first answer byte.",
            ("model",),
            registry=registry,
            buckets=_TTFB_BUCKETS_S,
        )
        self._served = Counter(
            "mesh_llm_peer_requests",
            "Requests of peers and clients that this node's engines served.",
            ("model", "outcome"),
            registry=registry,
        )
        self._served_tokens = Counter(
            "mesh_llm_peer_tokens", "Tokens generated for them.", ("model",), registry=registry
        )
        self.in_flight = Gauge(
            "mesh_llm_requests_in_flight", "Requests now on their way.", registry=registry
        )
        self._models: set[str] = set()
        self._counters: dict[tuple[str, str, int, Outcome], Counter] = {}
        """The counter of each set of labels: `labels` costs more than the count."""
        self._histograms: dict[str, Histogram] = {}

    def observe(self, record: RequestRecord) -> None:
        """Count a finished request."""
        model = self._label(record.model)
        key = (model, record.path, record.status, record.outcome)
        counter = self._counters.get(key)
        if counter is None:
            words = (model, record.path, str(record.status), record.outcome.value)
            counter = self._counters[key] = self._requests.labels(*words)
        counter.inc()
        if record.tokens:
            self._tokens.labels(model).inc(record.tokens)
        if record.retries:
            self._retries.inc(record.retries)
        if record.ttfb_ms is not None and record.model:
            histogram = self._histograms.get(model)
            if histogram is None:
                histogram = self._histograms[model] = self._ttfb.labels(model)
            histogram.observe(record.ttfb_ms / 1000)

    def observe_served(self, record: RequestRecord) -> None:
        """Count a request that was served for a peer; the node where it was asked counts it as usage."""
        model = self._label(record.model)
        self._served.labels(model, record.outcome.value).inc()
        if record.tokens:
            self._served_tokens.labels(model).inc(record.tokens)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _label(self, model: str) -> str:
        if not model:
            return "none"
        if model not in self._models:
            if len(self._models) >= MODELS_MAX:
                return "other"
            self._models.add(model)
        return model
