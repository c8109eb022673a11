"""Finds the models in a folder: recursive within bounds, and quick when nothing changed.

A header is read once for a file's inode, size and time of change; the answer is kept in memory.
Projectors, later parts of a set and hidden folders (half downloads) are no models of their own.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from models_registry.gguf_header import BadModelFile, projector_beside, read_facts
from models_registry.shards import names_projector, shard_name
from nodes.mesh.model_facts import ModelFacts

DEPTH_MAX = 4
"""Folders below the models folder: publisher/repository/variant, and one more."""
ENTRIES_MAX = 20_000
"""Directory entries that one scan looks at; beyond that it stops, so that `/` is no trap."""
CACHE_MAX = 4096
"""Models whose headers are remembered."""

_Key = tuple[tuple[str, int, int, int], ...]
_cache: dict[_Key, ModelFacts | BadModelFile] = {}


@dataclass(frozen=True, slots=True)
class Scan:
    """What is in a folder."""

    models: tuple[ModelFacts, ...]
    """By name. Of two files of one name the one less deep, then first by path."""
    bad: tuple[BadModelFile, ...]
    """Files that end in .gguf and cannot be used, with reasons."""


def scan(models_dir: Path) -> Scan:
    """Return the models below a folder; an absent or unreadable folder holds none."""
    models: dict[str, ModelFacts] = {}
    bad: list[BadModelFile] = []
    for path in sorted(_candidates(models_dir), key=lambda path: (len(path.parts), str(path))):
        found = _read(path)
        if isinstance(found, BadModelFile):
            bad.append(found)
        else:
            models.setdefault(found.name, found)
    by_name = sorted(models.values(), key=lambda facts: facts.name.casefold())
    return Scan(tuple(by_name), tuple(bad))


def _candidates(models_dir: Path) -> list[Path]:
    """Return the .gguf files that stand for a model: whole ones, and the lowest part of each set."""
    whole: list[Path] = []
    sets: dict[Path, Path] = {}
    left = ENTRIES_MAX
    pending = [(models_dir.absolute(), 0)]
    while pending and left > 0:
        folder, depth = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        break
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir() and depth < DEPTH_MAX:
                        pending.append((Path(entry.path), depth + 1))
                    elif entry.name.lower().endswith(".gguf") and not names_projector(entry.name):
                        _sort_in(Path(entry.path), whole, sets)
        except OSError:
            continue  # unreadable, or gone since it was listed
    return whole + list(sets.values())


def _sort_in(path: Path, whole: list[Path], sets: dict[Path, Path]) -> None:
    place = shard_name(path.name)
    if place is None:
        whole.append(path)
        return
    key = path.with_name(f"{place.stem}-of-{place.count}")
    sets[key] = min(sets.get(key, path), path)


def _read(path: Path) -> ModelFacts | BadModelFile:
    key = _key(path)
    known = _cache.get(key)
    if known is not None:
        return known
    found: ModelFacts | BadModelFile
    try:
        found = read_facts(path)
    except BadModelFile as bad:
        found = bad
    if len(_cache) >= CACHE_MAX:
        _cache.pop(next(iter(_cache)))
    _cache[key] = found
    return found


def _key(path: Path) -> _Key:
    """Return what identifies a model's files as they are now: a change of any makes it a new key."""
    place = shard_name(path.name)
    paths = (
        [path.with_name(place.file_name(n)) for n in range(1, place.count + 1)] if place else [path]
    )
    projector = projector_beside(path)
    return tuple(_identity(one) for one in [*paths, *([projector] if projector else [])])


def _identity(path: Path) -> tuple[str, int, int, int]:
    try:
        info = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), info.st_ino, info.st_size, info.st_mtime_ns
