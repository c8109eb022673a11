"""The tensors that rpc-servers keep: what was used longest ago goes when they are too much."""

import os
from pathlib import Path

from models_registry.rpc_cache import FOLDER, prune


def filled(folder: Path) -> Path:
    """Return a cache of four tensors of 100 bytes; the second was used last, the first before it."""
    (folder / FOLDER).mkdir()
    for number, used_at in enumerate((300, 400, 100, 200)):
        path = folder / FOLDER / f"hash{number}"
        path.write_bytes(bytes(100))
        os.utime(path, (used_at, used_at))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / FOLDER).iterdir())


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    assert prune(filled(tmp_path), 250) == 200
    assert names(tmp_path) == ["hash0", "hash1"]


def test_what_is_within_bounds_stays(tmp_path: Path) -> None:
    assert prune(filled(tmp_path)) == 400
    assert len(names(tmp_path)) == 4


def test_cache_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert prune(tmp_path) == 0
