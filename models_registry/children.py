"""Records of the node's children on disk, and their reaping at the next boot.

One file for each child, ``child-PID.json`` in the run folder, so that writing one never endangers
another. The third belt after the parent-death signal and the guard: it catches children that
outlived both, after ``kill -9`` of node and guard at once on a system without the signal.
The caller holds the home's lock: whoever wrote these records is dead.
"""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from models_registry.guard import end_processes, identity

MAX_RECORD_BYTES = 4096
MAX_WHAT_CHARS = 200
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChildRecord:
    """One child process, told from every other by its number and its start."""

    pid: int
    identity: str
    """See `models_registry.guard.identity`."""
    what: str
    """For people: ``llama-server for smollm2``."""


def _path(run_dir: Path, pid: int) -> Path:
    return run_dir / f"child-{pid}.json"


def record(run_dir: Path, child: ChildRecord) -> None:
    """Write the record, atomically and for the owner alone. Not synced: after a power cut no child is left.

    Raises:
        OSError: the folder cannot be written (full, read-only); the caller goes on without.
    """
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(run_dir, child.pid)
    fresh = path.with_suffix(".new")
    body = {"pid": child.pid, "identity": child.identity, "what": child.what[:MAX_WHAT_CHARS]}
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(body, file)
    fresh.replace(path)


def forget(run_dir: Path, pid: int) -> None:
    """Remove the record; a record that is not there, or cannot go, is no fault: reaping checks."""
    try:
        _path(run_dir, pid).unlink(missing_ok=True)
    except OSError as fault:
        _log.warning("the record of child %d stays behind: %s", pid, fault)


def _read(path: Path) -> ChildRecord | None:
    try:
        with path.open("rb") as file:
            body = json.loads(file.read(MAX_RECORD_BYTES))
        child = ChildRecord(int(body["pid"]), str(body["identity"]), str(body["what"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return child if path.name == f"child-{child.pid}.json" else None


def recorded(run_dir: Path) -> list[ChildRecord]:
    """Return the readable records, by pid."""
    found = (_read(path) for path in run_dir.glob("child-*.json"))
    return sorted((child for child in found if child), key=lambda child: child.pid)


def reap(run_dir: Path) -> list[str]:
    """End what an earlier node of this home left running; return one sentence for each.

    Empty when nothing was left. Blocks up to three seconds when something must be killed. A process
    that only has the number of a recorded child is not touched; records are removed either way,
    unreadable ones too.
    """
    if not run_dir.is_dir():
        return []
    children = {child.pid: child for child in recorded(run_dir)}
    ended = end_processes((child.pid, child.identity) for child in children.values())
    said = []
    for pid in ended:
        if identity(pid) == children[pid].identity:
            said.append(
                f"{children[pid].what} (pid {pid}), left by an earlier start, does not end: end it by hand"
            )
            continue
        said.append(f"ended {children[pid].what} (pid {pid}), left by an earlier start")
    for path in [*run_dir.glob("child-*.json"), *run_dir.glob("child-*.new")]:
        kept = _read(path)
        if kept is None or identity(kept.pid) != kept.identity:
            path.unlink(missing_ok=True)
    return said
