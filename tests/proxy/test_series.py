"""Figures of requests over time: sums, percentiles, and bounds."""

import random

import pytest

from proxy.records import Outcome
from proxy.series import CELLS_MAX, LEVELS, LINES_MAX, OTHERS, RequestSeries
from tests.fakes.traffic import record

NOW = 1_700_000_000.0 - 1_700_000_000.0 % 3600


def test_requests_errors_and_tokens_are_summed_by_model_and_node() -> None:
    series = RequestSeries(NOW)
    series.add(record(model="a", node="x", tokens=10), NOW)
    series.add(record(model="a", node="y", status=503, tokens=0), NOW)
    series.add(record(model="b", node="x", outcome=Outcome.BROKEN_OFF, tokens=5), NOW + 60)
    found = series.document(2, NOW + 61)
    assert (found["start"], found["step_s"], found["points"]) == (NOW, 60, 2)
    assert found["all"]["requests"] == [2, 1]
    assert found["all"]["errors"] == [1, 1]
    assert found["all"]["tokens"] == [10, 5]
    assert [(line["name"], line["requests"]) for line in found["models"]] == [
        ("a", [2, 0]),
        ("b", [0, 1]),
    ]
    assert [line["name"] for line in found["nodes"]] == ["x", "y"]


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_right_within_a_bucket(seed: int) -> None:
    chance = random.Random(seed)
    times = [chance.lognormvariate(4, 1) for _ in range(2000)]
    series = RequestSeries(NOW)
    for ttfb_ms in times:
        series.add(record(ttfb_ms=ttfb_ms), NOW)
    line = series.document(1, NOW)["all"]
    for key, share in (("ttfb_p50_ms", 0.5), ("ttfb_p95_ms", 0.95)):
        true = sorted(times)[int(share * len(times)) - 1]
        assert line[key][0] == pytest.approx(true, rel=0.09)


def test_a_span_without_answers_has_no_percentile() -> None:
    series = RequestSeries(NOW)
    series.add(record(ttfb_ms=None, status=0, outcome=Outcome.CLIENT_GONE), NOW)
    assert series.document(1, NOW)["all"]["ttfb_p50_ms"] == [None]


@pytest.mark.parametrize(
    ("minutes", "points"), [(1, 1), (60, 60), (61, 13), (1440, 96), (10**9, 96)]
)
def test_a_day_and_an_hour_hold_the_same_requests(minutes: int, points: int) -> None:
    series = RequestSeries(NOW)
    for minute in range(60):
        series.add(record(), NOW + 60 * minute)
    found = series.document(minutes, NOW + 60 * 59)
    assert found["points"] == points
    assert sum(found["all"]["requests"]) == min(minutes, 60)


def test_what_is_kept_is_bounded_in_time_and_in_names() -> None:
    series = RequestSeries(NOW)
    for minute in range(0, 3 * 1440, 7):
        series.add(record(), NOW + 60 * minute)
    last = NOW + 60 * 3 * 1440
    for number in range(3 * CELLS_MAX):
        series.add(record(model=f"m{number}"), last)
    for (_, keep), points in zip(LEVELS, series._levels, strict=True):
        assert len(points) <= keep
        assert max(len(cells) for cells in points.values()) <= CELLS_MAX + 1
    found = series.document(60, last)
    assert len(found["models"]) == LINES_MAX + 1
    assert found["models"][-1]["name"] == OTHERS
    assert sum(line["requests"][-1] for line in found["models"]) == 3 * CELLS_MAX
