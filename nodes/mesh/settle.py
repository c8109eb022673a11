"""An outcome is acted upon only after it has stood for a while: what a view says in passing moves nothing.

Knows no outcomes and no clock: both are handed in. Source: spec, Election and split (settle time 2 s).
"""

from typing import Generic, TypeVar

SETTLE_S = 2.0
"""Unit: seconds. Longer than gossip takes to tell everybody (<= 1 s), so that of several nodes that
could act the others have seen the first one's move before they make theirs."""

T = TypeVar("T")


class Settle(Generic[T]):
    """One outcome on its way. The same again keeps its time, another one begins anew."""

    def __init__(self) -> None:
        self._outcome: T | None = None
        self._since_s = 0.0
        self._wait_s = 0.0

    def see(self, outcome: T | None, now: float, wait_s: float = SETTLE_S) -> T | None:
        """Return the outcome once it has stood for `wait_s`; None: not yet, or there is nothing to do."""
        if outcome != self._outcome:
            self._outcome, self._since_s = outcome, now
        self._wait_s = wait_s
        return outcome if outcome is not None and now >= self._since_s + wait_s else None

    def clear(self) -> None:
        """Forget it: it was acted upon."""
        self._outcome = None

    @property
    def deadline(self) -> float | None:
        """When the outcome will have stood long enough; None: there is none."""
        return None if self._outcome is None else self._since_s + self._wait_s
