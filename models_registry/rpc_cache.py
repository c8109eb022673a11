"""The tensors that rpc-servers keep between loads (`-c`), held within bounds: they bound nothing themselves.

A worker that has not the model's file gets each large tensor once and offers it by its hash the next time.
Knows the folder alone: llama.cpp writes ``rpc/<hash>`` under ``LLAMA_CACHE``.
"""

import contextlib
import shutil
from pathlib import Path

CACHE_BYTES_MAX = 32 << 30
"""Bytes kept after a run; what was used longest ago goes first. A load may go beyond for its time."""
DISK_SHARE_MAX = 0.1
"""And never more than this share of what the disk has free, the cache's own bytes counted as free."""
FOLDER = "rpc"


def prune(cache_dir: Path, most_bytes: int = CACHE_BYTES_MAX) -> int:
    """Remove what is too much from the cache under `cache_dir`; return the bytes that are left. Blocks."""
    found = []
    with contextlib.suppress(OSError):
        for path in (cache_dir / FOLDER).iterdir():
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
    total = sum(size for _, size, _ in found)
    if not found:
        return 0
    most = min(most_bytes, int((shutil.disk_usage(cache_dir).free + total) * DISK_SHARE_MAX))
    for _, size, path in sorted(found):
        if total <= most:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
    return total
