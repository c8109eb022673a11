"""The children that run now: in memory, in the guard, and on disk. One owner of the three."""

import logging
from pathlib import Path

from models_registry import children
from models_registry.guard import identity
from models_registry.supervision.guard_link import GuardLink

_log = logging.getLogger(__name__)


class Roster:
    """Every child of this node from its spawn to its end."""

    def __init__(self, run_dir: Path, guard: GuardLink) -> None:
        self._run_dir = run_dir
        self._guard = guard
        self._pids: list[int] = []

    def pids(self) -> tuple[int, ...]:
        """Return the pids of the children that run, oldest first."""
        return tuple(self._pids)

    def add(self, pid: int, what: str) -> None:
        """Enter a child right after its spawn."""
        self._pids.append(pid)
        known = identity(pid)
        if known is None:
            return  # Already ended: nobody needs to end it.
        self._guard.add(pid, known)
        try:
            children.record(self._run_dir, children.ChildRecord(pid, known, what))
        except OSError as fault:
            _log.warning(
                "%s (pid %d) is not recorded on disk, only with the guard: %s", what, pid, fault
            )

    def remove(self, pid: int) -> None:
        """Strike a child that has ended."""
        if pid in self._pids:
            self._pids.remove(pid)
            self._guard.remove(pid)
            children.forget(self._run_dir, pid)
