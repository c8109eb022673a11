"""The table that the lane's measurements print: a figure, its bound, and whether it holds."""

from dataclasses import dataclass, field


@dataclass
class Rows:
    """Figures in the order in which they were measured."""

    lines: list[str] = field(default_factory=list)
    short: int = 0

    def at_least(self, what: str, value: float, bound: float, unit: str) -> None:
        self._add(what, value, f">= {bound:g}", unit, value >= bound)

    def at_most(self, what: str, value: float, bound: float, unit: str) -> None:
        self._add(what, value, f"<= {bound:g}", unit, value <= bound)

    def holds(self, what: str, value: bool) -> None:
        self.short += not value
        self._line(what, "yes" if value else "no", "yes", "ok" if value else "falls short")

    def shown(self, what: str, value: float, unit: str) -> None:
        self._line(what, f"{value:,.3g} {unit}", "", "")

    def _add(self, what: str, value: float, bound: str, unit: str, good: bool) -> None:
        self.short += not good
        self._line(what, f"{value:,.3g} {unit}", bound, "ok" if good else "falls short")

    def _line(self, *cells: str) -> None:
        line = "| " + " | ".join(cells) + " |"
        self.lines.append(line)
        print(line, flush=True)
