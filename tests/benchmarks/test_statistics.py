"""Percentiles, spread and ratios are what the table says they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import median, paired_ratio, percentile, spread

FINITE = st.floats(min_value=-1e6, max_value=1e6)


def test_percentile_between_two_values_is_linear() -> None:
    assert percentile([10.0, 20.0], 25) == 12.5


def test_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([3.0], percent) for percent in (0, 50, 99, 100)] == [3.0] * 4


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_one_outlier_moves_neither_median_nor_spread_far() -> None:
    values = [1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1000.0]
    assert median(values) == 1.0
    assert spread(values) < 0.2


@given(st.lists(FINITE, min_size=1, max_size=50), st.floats(min_value=0, max_value=100))
def test_percentile_lies_within_the_values(values: list[float], percent: float) -> None:
    slack = 1e-9 * max(1.0, *(abs(value) for value in values))
    assert min(values) - slack <= percentile(values, percent) <= max(values) + slack


def test_ratio_pairs_by_round_so_that_a_slow_round_cancels_out() -> None:
    ours, theirs = {0: 1.0, 1: 10.0, 2: 1.0}, {0: 2.0, 1: 20.0, 2: 2.0}
    assert paired_ratio(ours, theirs) == 0.5


def test_ratio_leaves_out_rounds_that_one_side_lacks() -> None:
    assert paired_ratio({0: 1.0, 1: 9.0}, {0: 4.0}) == 0.25


def test_ratio_against_nothing_or_noise_is_unknown() -> None:
    assert paired_ratio({0: 1.0}, {}) is None
    assert paired_ratio({0: 1.0}, {0: -0.1}) is None
