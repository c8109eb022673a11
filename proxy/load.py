"""The meter of each model's load on this node's engines: records in, `ServerLoadSampled` events out.

PURE: time is given, and so is what is in flight. Rates are over the last `WINDOW_S` seconds; time to
first byte is the median of the last `TTFB_KEPT` answers.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from nodes.mesh.events import ServerLoadSampled
from nodes.mesh.ids import ModelName
from proxy.records import RequestRecord

WINDOW_S = 10.0
"""Seconds that the rates look back."""
TTFB_KEPT = 100
"""Answers that the median looks back."""
MODELS_MAX = 256
"""Models measured; a further one is not, until the node's restart."""
MARKS_MAX = 64
"""Samples of the totals kept for the rates: one per `sample` call."""


@dataclass(slots=True)
class _Meter:
    requests: int = 0
    tokens: int = 0
    ttfb_ms: deque[float] = field(default_factory=lambda: deque(maxlen=TTFB_KEPT))
    marks: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=MARKS_MAX))
    """(time, requests, tokens) of earlier samples, oldest first."""


class LoadMeter:
    """Per-model load since the node's start."""

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}

    def generated(self, model: str, tokens: int) -> None:
        """Count tokens of a request that still runs (or has just finished)."""
        meter = self._meter(model)
        if meter is not None:
            meter.tokens += tokens

    def finished(self, record: RequestRecord) -> None:
        """Note the end of a request. Its tokens are counted by `generated`."""
        meter = self._meter(record.model)
        if meter is None:
            return
        meter.requests += 1
        if record.ttfb_ms is not None:
            meter.ttfb_ms.append(record.ttfb_ms)

    def sample(self, now: float, in_flight: Mapping[str, int]) -> tuple[ServerLoadSampled, ...]:
        """Return every measured model's load as of `now` (seconds, monotonic)."""
        for model in in_flight:
            self._meter(model)
        return tuple(
            _sampled(name, meter, now, in_flight.get(name, 0))
            for name, meter in self._meters.items()
        )

    def _meter(self, model: str) -> _Meter | None:
        meter = self._meters.get(model)
        if meter is None and model and len(self._meters) < MODELS_MAX:
            meter = self._meters[model] = _Meter()
        return meter


def _sampled(name: str, meter: _Meter, now: float, in_flight: int) -> ServerLoadSampled:
    while len(meter.marks) > 1 and meter.marks[1][0] <= now - WINDOW_S:
        meter.marks.popleft()
    since, requests, tokens = meter.marks[0] if meter.marks else (now, 0, 0)
    passed = now - since
    meter.marks.append((now, meter.requests, meter.tokens))
    return ServerLoadSampled(
        model=ModelName(name),
        in_flight=in_flight,
        requests=meter.requests,
        tokens=meter.tokens,
        requests_per_s=(meter.requests - requests) / passed if passed > 0 else 0.0,
        tokens_per_s=(meter.tokens - tokens) / passed if passed > 0 else 0.0,
        ttfb_p50_ms=median(meter.ttfb_ms) if meter.ttfb_ms else None,
    )
