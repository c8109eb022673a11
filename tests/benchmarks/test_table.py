"""The table names every target, every reason for a gap, and touches only its own part of the page."""

import pytest

from benchmarks import table
from benchmarks.figures import FIGURES
from benchmarks.measure_http import subtract_direct
from benchmarks.results import Results
from benchmarks.target import DIRECT, LITELLM, NGINX, OURS

TTFB = frozenset({"ttfb"})


def measured() -> Results:
    results = Results(machine={"cores": "2"}, versions={"nginx": "1.2"})
    for number in range(3):
        results.add("ttfb_p50", DIRECT, number, 0.001)
        results.add("ttfb_p50", OURS, number, 0.0003)
        results.add("ttfb_p50", NGINX, number, 0.0001)
    results.excuse("", LITELLM, "could not be installed: no network")
    return results


def row(text: str, title: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {title}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_values_are_shown_in_the_unit_with_their_spread() -> None:
    cells = row(table.render(measured(), "today", "cmd", TTFB), FIGURES[0].title)
    assert cells[2:5] == ["1.000 ± 0.000", "0.300 ± 0.000", "0.100 ± 0.000"]


def test_a_peer_that_could_not_be_installed_is_named_with_its_reason() -> None:
    text = table.render(measured(), "today", "cmd", TTFB)
    assert row(text, FIGURES[0].title)[5:] == ["absent", FIGURES[0].must, "not measured"]
    assert "- LiteLLM: could not be installed: no network" in text


def test_only_the_chosen_groups_get_rows() -> None:
    text = table.render(measured(), "today", "cmd", TTFB)
    assert text.count("\n| ") == 1 + sum(figure.group == "ttfb" for figure in FIGURES)


def test_writing_keeps_the_page_around_the_markers() -> None:
    page = f"# Title\n\n{table.BEGIN}\nold\n{table.END}\n\nHow to read it.\n"
    once = table.replace_generated(page, "new")
    assert once == f"# Title\n\n{table.BEGIN}\nnew\n{table.END}\n\nHow to read it.\n"
    assert table.replace_generated(once, "new") == once


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        table.replace_generated("# Title", "new")


def test_added_figures_subtract_direct_of_the_same_round() -> None:
    results = Results()
    for number, (base, ours) in enumerate([(1.0, 1.5), (2.0, 2.25)]):
        results.add("x", DIRECT, number, base)
        results.add("x", OURS, number, ours)
    results.add("x", OURS, 2, 9.0)  # direct has no such round: nothing to compare with
    subtract_direct(results, "x")
    assert results.values("x", OURS) == {0: 0.5, 1: 0.25}
    assert results.values("x", DIRECT) == {0: 1.0, 1: 2.0}


def test_a_tally_counts_ok_short_and_unknown() -> None:
    assert table.tally(measured(), TTFB) == (0, 0, 2)
