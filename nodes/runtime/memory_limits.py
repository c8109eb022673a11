"""How much memory and processor the system lets this process use: the machine's, or a container's.

Sources: cgroup v2 (memory.max, memory.current, memory.stat, cpu.max), cgroup v1 (memory.limit_in_bytes).
A limit on any folder from this process's cgroup up to the root holds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED_BYTES = 1 << 60
"""cgroup v1 writes a huge number where there is no limit."""


@dataclass(frozen=True, slots=True)
class CgroupMemory:
    """The tightest memory limit of a cgroup."""

    limit_bytes: int
    available_bytes: int
    """The limit less what is in use and cannot be dropped (page cache can)."""


def cgroup_memory(root: Path = Path("/")) -> CgroupMemory | None:
    """Return the tightest limit on this process's memory, or None when there is none."""
    found = [memory for folder in _folders(root) if (memory := _memory_of(folder))]
    if not found:
        return None
    return CgroupMemory(
        min(memory.limit_bytes for memory in found), min(memory.available_bytes for memory in found)
    )


def cgroup_cpus(root: Path = Path("/")) -> int | None:
    """Return how many CPUs' time this process may use, rounded up, or None when it is not limited."""
    shares = []
    for folder in _folders(root):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            shares.append(int(words[0]) / int(words[1]))
    return max(1, math.ceil(min(shares))) if shares else None


def _folders(root: Path) -> Iterator[Path]:
    """Yield the cgroup folders that hold for this process, its own first."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            mount = root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
        else:
            continue
        # Inside a container the path may be the host's: then only the mount itself exists.
        inner = PurePosixPath(path.lstrip("/"))
        for part in (inner, *inner.parents):
            if ".." not in part.parts and (mount / part).is_dir():
                yield mount / part


def _memory_of(folder: Path) -> CgroupMemory | None:
    limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
    if limit is None or limit >= UNLIMITED_BYTES:
        return None
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
    stat = {
        words[0]: int(words[1])
        for line in _text(folder / "memory.stat").splitlines()
        if len(words := line.split()) == 2 and words[1].isdecimal()
    }
    droppable = stat.get("inactive_file", stat.get("total_inactive_file", 0))
    return CgroupMemory(limit, max(0, limit - max(0, used - droppable)))


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
