"""Guessing passwords made slow: after a few failures an address waits, whatever account it tries.

In memory and bounded: a restart forgets, and beyond ADDRESSES_MAX the longest quiet are forgotten. It
counts failures only, so nobody is kept out by somebody else at another address.
"""

import time
from collections import OrderedDict, deque

FAILURES_MAX = 8
"""Failed logins of one address within WINDOW_S before it has to wait."""

WINDOW_S = 300.0

ADDRESSES_MAX = 4_096

_failures: "OrderedDict[str, deque[float]]" = OrderedDict()


def note_failure(address: str, now: float | None = None) -> None:
    """Count a login that failed; `now` is monotonic seconds."""
    times = _failures.setdefault(address, deque(maxlen=FAILURES_MAX))
    times.append(time.monotonic() if now is None else now)
    _failures.move_to_end(address)
    while len(_failures) > ADDRESSES_MAX:
        _failures.popitem(last=False)


def forget(address: str) -> None:
    """Begin anew after a login that was good."""
    _failures.pop(address, None)


def wait_s(address: str, now: float | None = None) -> float:
    """Return how long this address has to wait before it may try again; 0: it may now."""
    times = _failures.get(address)
    if times is None or len(times) < FAILURES_MAX:
        return 0.0
    return max(0.0, times[0] + WINDOW_S - (time.monotonic() if now is None else now))
