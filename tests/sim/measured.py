"""What a measured row is, and how rows are printed."""

import statistics
from collections.abc import Callable, Iterable

Row = tuple[str, str, str, bool]
"""(figure, wanted, measured, kept)."""
Measure = Callable[[bool], Row]
"""Measures one row; True: with the full counts."""


def percentile(values: list[float], percent: int) -> float:
    """Return 999 where nothing was observed."""
    if len(values) < 2:
        return values[0] if values else 999.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def print_rows(rows: Iterable[Measure], full: bool, only: str = "") -> int:
    """Print the rows (those whose figure contains `only`), one as it is done; return 1 if one was missed."""
    print("| figure | wanted | measured | |\n|---|---|---|---|", flush=True)
    failed = 0
    for row in rows:
        if only and only not in getattr(row, "__name__", repr(row)):
            continue
        figure, wanted, measured, kept = row(full)
        failed += not kept
        print(f"| {figure} | {wanted} | {measured} | {'kept' if kept else 'MISSED'} |", flush=True)
    return 1 if failed else 0
