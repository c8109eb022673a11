"""Model files as places of weights: which file holds the bytes of a tensor, and reading them.

Decides what counts as the same tensor (name, type, shape, size) and when a file is no longer the one
that was opened. Reads by `pread` and not through a mapping: a file that is cut short while it is
mapped would end the whole process, and a read that waits for the disk lets the others go on.
"""

import hashlib
import os
import weakref
from dataclasses import dataclass
from pathlib import Path

from models_registry.gguf_parse import HeaderFault, TensorPlace, parse
from models_registry.rpc.protocol import TensorKey

BLOCK_BYTES = 256 << 10
"""Read, compared and hashed at a time: two of them fit a core's own cache."""
_DIMENSIONS = 4
_KEY_DIGITS = 32


class WeightsFault(Exception):
    """A model file cannot be used for feeding. The text is a clause for people."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells one state of a file from every other: a change gives another one."""

    device: int
    inode: int
    size_bytes: int
    changed_ns: int
    """Its mtime."""

    @classmethod
    def of(cls, facts: os.stat_result) -> "FileIdentity":
        """Return the identity in what `stat` says."""
        return cls(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


class WeightFile:
    """One open GGUF file, closed when nothing refers to it any more.

    Thread-safe: it is only ever read, each time at a given place.
    """

    def __init__(self, path: Path) -> None:
        """Raises: WeightsFault."""
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise WeightsFault(f"{path.name} cannot be read ({error.strerror})") from error
        # Not closed by hand: a thread that reads would meet whatever gets the number next.
        weakref.finalize(self, os.close, self.descriptor)
        try:
            self.identity = FileIdentity.of(os.fstat(self.descriptor))
            with open(self.descriptor, "rb", closefd=False) as file:
                header = parse(file, self.identity.size_bytes)
        except (OSError, HeaderFault) as error:
            raise WeightsFault(f"{path.name} is no model file ({error})") from error
        self.key = f"{header.digest[:_KEY_DIGITS]}:{self.identity.size_bytes}"
        """What two machines call the same file: its header and its size. Its bytes are checked apart."""
        self._start = header.data_start
        self.tensors = header.tensors

    def is_unchanged(self) -> bool:
        """Return whether the file is in the state in which it was opened."""
        return FileIdentity.of(os.fstat(self.descriptor)) == self.identity

    def whole(self) -> "Weight":
        """Return the file itself as one stretch of bytes."""
        return Weight(self, 0, self.identity.size_bytes)

    def weight(self, place: TensorPlace) -> "Weight":
        """Return where a tensor's bytes are."""
        return Weight(self, self._start + place.offset, place.size_bytes)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` from `offset` on. Raises: WeightsFault."""
        done = 0
        while done < len(view):
            try:
                count = _read_at(self.descriptor, view[done:], offset + done)
            except OSError as error:
                raise WeightsFault(f"{self.path.name} cannot be read ({error.strerror})") from error
            if count == 0:
                raise WeightsFault(f"{self.path.name} became shorter")
            done += count


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor in one file, or the whole file."""

    file: WeightFile
    start: int
    """Where in the file its bytes begin; a tensor's never at 0."""
    size_bytes: int

    def digest(self) -> bytes:
        """Return the SHA-256 of its bytes, read now. Blocks. Raises: WeightsFault."""
        digest, block = hashlib.sha256(), memoryview(bytearray(min(BLOCK_BYTES, self.size_bytes)))
        for at in range(0, self.size_bytes, BLOCK_BYTES):
            part = block[: min(BLOCK_BYTES, self.size_bytes - at)]
            self.file.read_into(self.start + at, part)
            digest.update(part)
        return digest.digest()


class WeightFiles:
    """The files that one split may be fed from: a model's parts, and its draft's."""

    def __init__(self, files: list[WeightFile]) -> None:
        self.files = files

    @property
    def names(self) -> frozenset[str]:
        """Every tensor's name."""
        return frozenset(name for file in self.files for name in file.tensors)

    @property
    def keys(self) -> list[str]:
        """The files' keys."""
        return [file.key for file in self.files]

    def find(self, key: TensorKey, size_bytes: int | None, files: frozenset[str]) -> list[Weight]:
        """Return the tensors of this name, type, shape and size (None: any), in the files of these keys.

        A draft has tensors of the same names; where shapes agree too, only their bytes tell them apart.
        """
        found = []
        for file in self.files:
            place = file.tensors.get(key.name)
            if (
                place is not None
                and file.key in files
                and place.kind == key.kind
                and size_bytes in (None, place.size_bytes)
                and place.size_bytes
                and _padded(place.shape) == key.shape
            ):
                found.append(file.weight(place))
        return found


def open_all(paths: list[Path]) -> tuple[WeightFiles, list[str]]:
    """Return the files that can be used, and a clause for each that cannot. Blocks."""
    files, faults = [], []
    for path in paths:
        try:
            files.append(WeightFile(path))
        except WeightsFault as fault:
            faults.append(str(fault))
    return WeightFiles(files), faults


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape as the protocol writes it: four numbers, ones behind."""
    return shape + (1,) * (_DIMENSIONS - len(shape))


def _read_at(descriptor: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], offset)
    content = os.pread(descriptor, len(view), offset)  # an older macOS: one copy more
    view[: len(content)] = content
    return len(content)
