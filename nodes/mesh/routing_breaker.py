"""Keeps requests away from a host that failed several in a row, and tries it again with one of them.

Closed: all may pass. Open: none, for a time that doubles. Then half-open: one request is the trial; its
success closes the breaker, its failure opens it for longer. An open breaker ranks a host behind the
others and forbids nothing: with nobody else left it is asked all the same.

Source: the circuit breaker of Nygard, "Release It!" (2007).
"""

from enum import Enum

BREAKER_FAILURES = 3
"""Failures in a row that open it."""
BREAKER_OPEN_S = 2.0
"""First time for which it is open; doubled by each failed trial."""
BREAKER_OPEN_MAX_S = 60.0
BREAKER_TRIAL_S = 5.0
"""A trial that has said nothing for so long (a long prompt) no longer keeps the next one back."""


class BreakerState(Enum):
    """Whether requests may pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    """One may pass as a trial, and none has been sent yet."""


class Breaker:
    """One host's breaker. Times are seconds of one monotonic clock."""

    __slots__ = ("_failures", "_open_s", "_retry_at_s", "untroubled")

    def __init__(self) -> None:
        self._failures = 0
        self._open_s = 0.0
        self._retry_at_s: float | None = None
        """None: closed."""
        self.untroubled = True
        """Nothing has failed since the last success: `began` and `succeeded` would change nothing."""

    def state(self, now: float) -> BreakerState:
        """Return whether requests may pass at `now`."""
        if self._retry_at_s is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if now >= self._retry_at_s else BreakerState.OPEN

    def began(self, now: float) -> bool:
        """Note a request on its way to the host; return whether it is the trial."""
        if self.state(now) is not BreakerState.HALF_OPEN:
            return False
        self._retry_at_s = now + BREAKER_TRIAL_S
        return True

    def succeeded(self) -> None:
        """Close: the host answered."""
        self._failures = 0
        self._open_s = 0.0
        self._retry_at_s = None
        self.untroubled = True

    def failed(self, now: float, trial: bool) -> None:
        """Count a failure. While open only the trial's counts: the others were sent before, or in need."""
        if self._retry_at_s is not None and not trial:
            return
        self._failures += 1
        self.untroubled = False
        if self._failures < BREAKER_FAILURES:
            return
        self._open_s = min(BREAKER_OPEN_MAX_S, self._open_s * 2 or BREAKER_OPEN_S)
        self._retry_at_s = now + self._open_s

    def abandoned(self, now: float) -> None:
        """The trial ended without a word on the host (its client left): the next request may be one."""
        if self._retry_at_s is not None:
            self._retry_at_s = now
