"""The statistics: percentile, median, spread, and ratios within a round. Pure."""

from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value at `percent` (0..100), linear between neighbours. Raises ValueError on none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Sequence[float]) -> float:
    """Return the median. Raises ValueError on none."""
    return percentile(values, 50)


def spread(values: Sequence[float]) -> float:
    """Return the interquartile range; 0 for one value. Raises ValueError on none."""
    return percentile(values, 75) - percentile(values, 25)


def paired_ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float | None:
    """Return the median of ours / theirs over the rounds that both have; None where there is none.

    Both map a round's number to its value: what disturbed the machine in a round hit both of them.
    A value of theirs that is not positive says nothing (noise ate the difference) and is left out.
    """
    ratios = [ours[key] / theirs[key] for key in ours if theirs.get(key, 0) > 0]
    return median(ratios) if ratios else None
