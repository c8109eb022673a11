"""Everything that waits, in one heap: `handle` runs what is due, `deadline` says when to come back."""

import heapq
import math
from collections.abc import Callable
from typing import Any


class Timer:
    """One thing that waits. `cancel` is cheap; the heap forgets it later."""

    __slots__ = ("action", "argument", "when")

    def __init__(self, when: float, action: Callable[[Any], None], argument: Any) -> None:
        self.when = when
        self.action: Callable[[Any], None] | None = action
        self.argument = argument

    def cancel(self) -> None:
        """Let it never run."""
        self.action = None
        self.argument = None


class Timers:
    """The heap. Ties run in the order in which they were set, so a run can be repeated exactly."""

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def at(self, when: float, action: Callable[[Any], None], argument: Any = None) -> Timer:
        """Run `action(argument)` at `when`, monotonic seconds."""
        timer = Timer(when, action, argument)
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, timer))
        return timer

    @property
    def deadline(self) -> float:
        """When the next one is due; infinity where none waits."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def run_due(self, now: float) -> None:
        """Run what is due. What an action sets for now or earlier runs at the next call."""
        heap = self._heap
        due: list[Timer] = []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap)[2])
        for timer in due:
            if timer.action is not None:
                timer.action(timer.argument)
