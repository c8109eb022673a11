"""How far the search for a model has got: what `resolve`, `download` and their callers exchange. PURE."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of resolving a model."""

    name: str
    phase: str
    """For people: ``looking``, ``downloading``, ``checking``."""
    done_bytes: int = 0
    total_bytes: int = 0
    """0 where there is nothing to count."""


OnProgress = Callable[[Progress], None]
"""Called from the thread that resolves, at most some ten times a second. It may raise to stop the work:
what was downloaded so far is kept and the next attempt goes on from there."""


def ignore(progress: Progress) -> None:
    """Take a progress and do nothing with it."""
