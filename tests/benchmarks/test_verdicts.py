"""A figure is ok only where every promise about it was measured and kept."""

import pytest

from benchmarks.bounds import Bound, Figure, Verdict
from benchmarks.figures import FIGURES
from benchmarks.results import Results
from benchmarks.target import LITELLM, NGINX, OURS

RATE = Figure(
    "rate", "g", "rate", "1/s", bounds=(Bound(0.2, True, NGINX), Bound(50, True, LITELLM))
)
DELAY = Figure("delay", "g", "delay", "ms", 1e3, bounds=(Bound(0.5e-3),))


def with_rates(**rates: float) -> Results:
    results = Results()
    names = {"ours": OURS, "nginx": NGINX, "litellm": LITELLM}
    for name, rate in rates.items():
        results.add("rate", names[name], 0, rate)
    return results


def test_both_ratios_kept_is_ok() -> None:
    assert RATE.verdict(with_rates(ours=5000, nginx=20000, litellm=90)) is Verdict.OK


def test_one_ratio_missed_falls_short() -> None:
    assert RATE.verdict(with_rates(ours=3000, nginx=20000, litellm=50)) is Verdict.SHORT


def test_a_peer_that_is_absent_leaves_the_verdict_open() -> None:
    assert RATE.verdict(with_rates(ours=5000, nginx=20000)) is Verdict.UNKNOWN


def test_a_missed_bound_counts_even_where_another_peer_is_absent() -> None:
    assert RATE.verdict(with_rates(ours=100, nginx=20000)) is Verdict.SHORT


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0.0005, Verdict.OK), (0.00051, Verdict.SHORT), (-1e-5, Verdict.OK)]
)
def test_an_absolute_bound_includes_its_limit(seconds: float, verdict: Verdict) -> None:
    results = Results()
    results.add("delay", OURS, 0, seconds)
    assert DELAY.verdict(results) is verdict


def test_every_figure_with_a_bound_says_it_in_words_and_keys_are_unique() -> None:
    assert all(bool(figure.must) == bool(figure.bounds) for figure in FIGURES)
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
