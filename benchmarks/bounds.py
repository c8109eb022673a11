"""What a row of the table is, and how it stands against what was promised of it. Pure."""

from dataclasses import dataclass
from enum import Enum

from benchmarks.results import Results
from benchmarks.stats import median, paired_ratio
from benchmarks.target import OURS


class Verdict(Enum):
    """How a figure stands against its bounds."""

    OK = "ok"
    SHORT = "**falls short**"
    UNKNOWN = "not measured"
    FREE = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """One promise about our figure: against a number, or against a peer's figure of the same run."""

    limit: float
    at_least: bool = False
    peer: str = ""

    def holds(self, results: Results, key: str) -> bool | None:
        """Return whether the promise is kept; None where a side of it was not measured."""
        ours = results.values(key, OURS)
        if not ours:
            return None
        value: float | None = median(list(ours.values()))
        if self.peer:
            value = paired_ratio(ours, results.values(key, self.peer))
        if value is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. Values are kept in seconds, bytes, requests/s or fractions; `scale` makes them `unit`."""

    key: str
    group: str
    title: str
    unit: str
    scale: float = 1.0
    digits: int = 2
    must: str = ""
    bounds: tuple[Bound, ...] = ()

    def verdict(self, results: Results) -> Verdict:
        """Return OK only where every bound was measured and holds."""
        if not self.bounds:
            return Verdict.FREE
        held = [bound.holds(results, self.key) for bound in self.bounds]
        if False in held:
            return Verdict.SHORT
        return Verdict.UNKNOWN if None in held else Verdict.OK
