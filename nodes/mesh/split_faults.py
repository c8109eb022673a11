"""What went wrong with splits lately: which workers to leave out for how long, and when to plan again.

Decides nothing about a split itself. A worker that is lost once is taken again at once; one that is lost
again and again is held out for a growing time. A host's engine that breaks again and again makes the next
plan wait. Source: issue 5, Losing a worker (a flapping worker is held out for a growing time).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nodes.mesh.ids import ModelName, NodeId

HOLD_OUT_S = (0.0, 30.0, 60.0, 120.0, 300.0)
"""Unit: seconds, after the first, second ... loss of the same worker; the last stands for all further."""

UNFIT_S = 30.0
"""Unit: seconds for which a worker that did not follow its orders, or whose link is slow, is left out: it may
be of use later, but asking it again at once would keep the model waiting for it."""

FORGET_AFTER_S = 600.0
"""Unit: seconds without another loss after which a worker's losses, or a model's breaks, are forgotten."""

BREAK_WAIT_FIRST_S = 1.0
BREAK_WAIT_MAX_S = 30.0
"""The wait before another plan of a model whose split broke: none at first, then 1 s, doubled each time."""

WORKERS_MAX = 256
MODELS_MAX = 64
"""What is remembered; what failed longest ago goes first."""


@dataclass(frozen=True, slots=True)
class _Losses:
    count: int
    last_s: float
    until_s: float
    what: str


class SplitFaults:
    """The memory of one host. Changed by `lost`, `unfit` and `broke` alone."""

    def __init__(self) -> None:
        self._workers: dict[NodeId, _Losses] = {}
        self._breaks: dict[ModelName, tuple[int, float]] = {}

    def lost(self, worker: NodeId, now: float) -> None:
        """A worker of a split was lost after it had been there."""
        count = self._count(worker, now)
        wait_s = HOLD_OUT_S[min(count, len(HOLD_OUT_S)) - 1]
        self._note(worker, _Losses(count, now, now + wait_s, f"was lost {count} times"))

    def unfit(self, worker: NodeId, now: float) -> None:
        """A worker did not follow its orders in time, or is too far away to be of use."""
        count = self._count(worker, now)
        wait_s = max(UNFIT_S, HOLD_OUT_S[min(count, len(HOLD_OUT_S)) - 1])
        self._note(worker, _Losses(count, now, now + wait_s, "was of no use"))

    def _count(self, worker: NodeId, now: float) -> int:
        before = self._workers.get(worker)
        fresh = before is None or now - before.last_s > FORGET_AFTER_S
        return 1 if fresh or before is None else before.count + 1

    def _note(self, worker: NodeId, losses: _Losses) -> None:
        self._workers.pop(worker, None)
        self._workers[worker] = losses
        while len(self._workers) > WORKERS_MAX:
            del self._workers[next(iter(self._workers))]

    def broke(self, model: ModelName, now: float) -> float:
        """A split of a model broke; return how many seconds to wait before the next plan."""
        count, last_s = self._breaks.pop(model, (0, now))
        count = 1 if now - last_s > FORGET_AFTER_S else count + 1
        self._breaks[model] = (count, now)
        while len(self._breaks) > MODELS_MAX:
            del self._breaks[next(iter(self._breaks))]
        if count == 1:
            return 0.0
        return min(BREAK_WAIT_MAX_S, BREAK_WAIT_FIRST_S * 2.0 ** (count - 2))

    def stood(self, model: ModelName) -> None:
        """A split of a model has worked for long: its breaks are forgotten."""
        self._breaks.pop(model, None)

    def held_out(self, now: float) -> Mapping[NodeId, str]:
        """Return who is left out now, and why."""
        return {
            worker: f"it {losses.what}: left out for {losses.until_s - now:.0f} s more"
            for worker, losses in self._workers.items()
            if losses.until_s > now
        }

    def next_release_s(self, now: float) -> float | None:
        """Return when the next of them may be taken again; None: nobody is left out."""
        waits = [losses.until_s for losses in self._workers.values() if losses.until_s > now]
        return min(waits, default=None)
