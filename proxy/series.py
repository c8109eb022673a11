"""Figures of finished requests over time, for charts: bounded, in memory, gone with the process.

PURE but for being told the time. The last hour is kept by the minute, the last six by five minutes and
the last day by the quarter hour, one cell for each (model, node) of each. Times to first byte are
counted in buckets that grow by BUCKET_GROWTH, so that percentiles of any span can be put together from
its parts (as in HdrHistogram, coarsely).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proxy.records import RequestRecord

MINUTES_MAX = 24 * 60
"""The longest span of a chart."""

LEVELS = ((1, 60), (5, 72), (15, 96))
"""(minutes of one point, points kept): the oldest go first. Charts take the first that spans enough."""

CELLS_MAX = 40
"""(model, node) pairs counted apart within one point; what is beyond is counted under OTHERS."""

OTHERS = "others"

LINES_MAX = 8
"""Models or nodes with a line of their own in one document: the busiest; the rest is one line."""

BUCKET_GROWTH = 1.15
"""Each bucket's bound over the last: a percentile is off by 7 % at most."""

BUCKETS_MAX = 128
"""Buckets from 0.1 ms on; the last holds everything beyond about 1.5 hours."""

FIRST_BUCKET_MS = 0.1
_LOG_GROWTH = math.log(BUCKET_GROWTH)

ERROR_STATUS_MIN = 400


@dataclass(slots=True)
class Cell:
    """Sums of one (model, node) in one span."""

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    ttfb: dict[int, int] = field(default_factory=dict)
    """Bucket to count."""

    def add(self, other: "Cell") -> None:
        """Add another span's sums."""
        self.requests += other.requests
        self.errors += other.errors
        self.tokens += other.tokens
        for bucket, count in list(other.ttfb.items()):
            self.ttfb[bucket] = self.ttfb.get(bucket, 0) + count

    def percentile_ms(self, share: float) -> float | None:
        """Return the time that `share` (0 to 1) of the answers began within; None without any."""
        total = sum(self.ttfb.values())
        if not total:
            return None
        seen = 0
        for bucket in sorted(self.ttfb):
            seen += self.ttfb[bucket]
            if seen >= share * total:
                return float(f"{FIRST_BUCKET_MS * BUCKET_GROWTH ** (bucket + 0.5):.3g}")
        raise AssertionError("a share of at most 1 is reached")


def bucket_of(ttfb_ms: float) -> int:
    """Return the bucket of a time."""
    if ttfb_ms <= FIRST_BUCKET_MS:
        return 0
    return min(BUCKETS_MAX - 1, int(math.log(ttfb_ms / FIRST_BUCKET_MS) / _LOG_GROWTH))


class RequestSeries:
    """The store: `add` each finished request, ask for a `document` of the last minutes."""

    def __init__(self, now_s: float) -> None:
        """`now_s` is Unix time: what was before it is not known here."""
        self.began_s = now_s
        self._levels: list[dict[int, dict[tuple[str, str], Cell]]] = [{} for _ in LEVELS]

    def add(self, record: RequestRecord, now_s: float) -> None:
        """Count a request that finished now; one that no model was found for counts as nobody's."""
        minute = int(now_s // 60)
        failed = record.status >= ERROR_STATUS_MIN or record.outcome in FAILED
        bucket = None if record.ttfb_ms is None else bucket_of(record.ttfb_ms)
        for (step, keep), points in zip(LEVELS, self._levels, strict=True):
            cells = points.get(minute // step)
            if cells is None:
                cells = points[minute // step] = {}
                while len(points) > keep:
                    del points[min(points)]
            key = (record.model, record.node)
            if key not in cells and len(cells) >= CELLS_MAX:
                key = (OTHERS, OTHERS)
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = Cell()
            cell.requests += 1
            cell.errors += failed
            cell.tokens += record.tokens
            if bucket is not None:
                cell.ttfb[bucket] = cell.ttfb.get(bucket, 0) + 1

    def document(self, minutes: int, now_s: float) -> dict[str, Any]:
        """Return the lines of the last `minutes` (1 to MINUTES_MAX), oldest point first.

        ``{start, step_s, points, began, all, models: [line], nodes: [line]}``; a line is ``{name, requests,
        errors, tokens, ttfb_p50_ms, ttfb_p95_ms}``, lists of `points` sums or percentiles (None: no answer).
        May run on another thread than `add`: it takes copies (one step each under the interpreter's lock).
        """
        minutes = max(1, min(minutes, MINUTES_MAX))
        level = next(n for n, (step, keep) in enumerate(LEVELS) if minutes <= step * keep)
        step = LEVELS[level][0]
        points = math.ceil(minutes / step)
        first = int(now_s // 60) // step - points + 1
        lines: dict[str, dict[str, list[Cell]]] = {"all": {}, "models": {}, "nodes": {}}
        for number, cells in list(self._levels[level].items()):
            point = number - first
            if not 0 <= point < points:
                continue
            for (model, node), cell in list(cells.items()):
                for group, name in (("all", "all"), ("models", model), ("nodes", node)):
                    line = lines[group].setdefault(name, [Cell() for _ in range(points)])
                    line[point].add(cell)
        empty = [Cell() for _ in range(points)]
        return {
            "start": first * step * 60,
            "step_s": step * 60,
            "points": points,
            "began": round(self.began_s),
            "all": _line("all", lines["all"].get("all", empty)),
            "models": _busiest(lines["models"]),
            "nodes": _busiest(lines["nodes"]),
        }


FAILED = frozenset({"broken_off", "stopped"})
"""Outcomes that are errors whatever the status was."""


def _busiest(lines: dict[str, list[Cell]]) -> list[dict[str, Any]]:
    ranked = sorted(lines, key=lambda name: (-sum(c.requests for c in lines[name]), name))
    shown = [_line(name, lines[name]) for name in ranked[:LINES_MAX]]
    if rest := ranked[LINES_MAX:]:
        shown.append(_line(OTHERS, _sum([lines[name] for name in rest])))
    return shown


def _sum(lines: Iterable[list[Cell]]) -> list[Cell]:
    total: list[Cell] = []
    for line in lines:
        total = total or [Cell() for _ in line]
        for into, cell in zip(total, line, strict=True):
            into.add(cell)
    return total


def _line(name: str, cells: list[Cell]) -> dict[str, Any]:
    return {
        "name": name,
        "requests": [cell.requests for cell in cells],
        "errors": [cell.errors for cell in cells],
        "tokens": [cell.tokens for cell in cells],
        "ttfb_p50_ms": [cell.percentile_ms(0.5) for cell in cells],
        "ttfb_p95_ms": [cell.percentile_ms(0.95) for cell in cells],
    }
