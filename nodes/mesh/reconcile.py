"""Desired against actual: what one model's engine needs next.

Decides start, restart after a backoff, and giving up. Does not know why a model is desired
(`placement`) nor how an engine is started (`models_registry.supervisor`).
"""

from dataclasses import dataclass
from enum import StrEnum

from nodes.mesh.events import ServerDrafted, ServerReady
from nodes.mesh.plans import ServerPlan
from nodes.mesh.split_seats import Seat

RESTART_DELAY_FIRST_S = 1.0
"""Wait before the first restart of an engine that ended by itself; doubles with each failure."""

RESTART_DELAY_MAX_S = 30.0
"""The longest wait between two restarts."""

RESTARTS_MAX = 5
"""Failures in a row after which the engine stays down until an operator asks for it."""

STABLE_AFTER_S = 60.0
"""An engine that was ready for this long has shown that it works: its earlier failures are forgotten."""

STOP_GRACE_S = 30.0
"""What open streams get when a model is dropped or the node stops (spec, Pinned 9)."""


class RunState(StrEnum):
    """Where one run of an engine is. Every run goes forward through these only."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(slots=True)
class Run:
    """One started engine."""

    plan: ServerPlan
    need_bytes: int
    started_at_s: float
    seats: tuple[Seat, ...] = ()
    """Of a split, host first."""
    state: RunState = RunState.STARTING
    phase: str = "starting"
    fraction: float | None = None
    ready: ServerReady | None = None
    ready_at_s: float | None = None
    drafted: ServerDrafted | None = None
    """None: no draft model, or nothing was guessed yet."""


@dataclass(slots=True)
class Slot:
    """All that this node remembers of running one model."""

    run: Run | None = None
    starts: int = 0
    failures: int = 0
    retry_at_s: float | None = None
    """When to try again; None: at once, unless `gave_up`."""
    gave_up: bool = False
    solo_tokens_per_s: float | None = None
    """The fastest that one stream was seen to be while this node served the model alone."""
    reason: str = ""
    """Why it is not running, for people; empty while all is well."""

    def may_start(self, now: float) -> bool:
        """Return whether an engine may be started now."""
        waiting = self.retry_at_s is not None and now < self.retry_at_s
        return self.run is None and not self.gave_up and not waiting

    def exited(self, reason: str, asked: bool, now: float) -> None:
        """Note the end of the run; decides when, and whether, the next one may start."""
        assert self.run is not None
        ready_at_s = self.run.ready_at_s
        self.run = None
        self.reason = "" if asked else reason
        self.retry_at_s = None
        if asked:
            return
        if ready_at_s is not None and now - ready_at_s >= STABLE_AFTER_S:
            self.failures = 0
        self.failures += 1
        if self.failures > RESTARTS_MAX:
            self.gave_up = True
        else:
            self.retry_at_s = now + restart_delay_s(self.failures)

    def note_speed(self, tokens_per_s: float) -> None:
        """Note how fast one stream is now: alone, it is what a split is compared with."""
        if self.run is not None and self.run.plan.split is None:
            self.solo_tokens_per_s = max(self.solo_tokens_per_s or 0.0, tokens_per_s)

    def forgive(self) -> None:
        """Forget failures: an operator asked for a fresh try."""
        self.failures, self.gave_up, self.retry_at_s, self.reason = 0, False, None, ""


def restart_delay_s(failures: int) -> float:
    """Return the wait before restart number `failures` (from 1): 1, 2, 4 ... at most 30 s."""
    assert failures >= 1
    return min(RESTART_DELAY_MAX_S, RESTART_DELAY_FIRST_S * 2.0 ** (failures - 1))
