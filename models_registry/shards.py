"""Decides which files belong together as one model, by their names alone. PURE.

A sharded model is `STEM-00001-of-00003.gguf` and its siblings: the naming of llama.cpp's gguf-split,
which llama-server itself relies on to find the other parts.
"""

import re
from dataclasses import dataclass

SHARDS_MAX = 1024
"""Parts of one model. The largest published sets have about 200."""

_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})$")
_QUANTISATION = re.compile(
    r"[-_.](?:ud-)?(?:i?q\d(?:_[a-z0-9]+)*|[bf]?f(?:16|32)|mxfp4(?:_moe)?|nvfp4|tq\d_\d)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ShardName:
    """A file's place in a sharded set."""

    stem: str
    number: int
    """From 1."""
    count: int

    def file_name(self, number: int) -> str:
        """Return the name of the set's part `number`, from 1."""
        return f"{self.stem}-{number:05d}-of-{self.count:05d}.gguf"


def shard_name(file_name: str) -> ShardName | None:
    """Return the place in a set that a file's name claims, or None for a whole file."""
    match = _SHARD.match(strip_suffix(file_name))
    if match is None:
        return None
    number, count = int(match["number"]), int(match["count"])
    if not 1 <= number <= count <= SHARDS_MAX:
        return None
    return ShardName(match["stem"], number, count)


def strip_suffix(file_name: str) -> str:
    """Return a file's name without `.gguf`, in any case."""
    return file_name[:-5] if file_name.lower().endswith(".gguf") else file_name


def model_stem(file_name: str) -> str:
    """Return a model's id: its file's stem, of a shard without ``-00001-of-N``."""
    shard = shard_name(file_name)
    return shard.stem if shard else strip_suffix(file_name)


def family(stem: str) -> str:
    """Return a stem without its quantisation, in lower case: what a model and its projector share."""
    return _QUANTISATION.sub("", stem).casefold()


def names_projector(file_name: str) -> bool:
    """Return whether a file's name says that it is a vision projector (mmproj), not a model."""
    return "mmproj" in file_name.casefold()


def projector_family(file_name: str) -> str:
    """Return what is left of a projector's name without the word itself and the quantisation."""
    stem = family(strip_suffix(file_name))
    return re.sub(r"[-_.]*mmproj[-_.]*(?:model[-_.]*)?", "", stem).strip("-_.")
