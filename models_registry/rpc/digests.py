"""The SHA-256 of tensors, computed once for each state of a file and kept on disk.

Decides when a kept digest still counts: device, inode, size and mtime of its file are the same. So no
load waits for the hash of a whole file: what is not known yet is computed tensor by tensor, and
`prepare` does it in the background as soon as a split is foreseen. Everything here may block and runs
in threads; one lock guards the tables.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from models_registry.rpc.weights import FileIdentity, Weight, WeightFile, WeightsFault
from nodes.runtime.unpack import UNPACK_FAULTS

FILES_MAX = 64
"""Files whose digests are kept; the longest unused go first."""
KEPT_BYTES_MAX = 16 << 20
"""Of one file's digests on disk: 131,072 tensors take 6 MB."""
DIGEST_BYTES = 32
LOAD_QUIET_S = 1.0
"""After a load's last weight: how long preparing still waits."""
_SUFFIX = ".digests"
_log = logging.getLogger(__name__)


class _Kept(msgspec.Struct):
    identity: tuple[int, int, int, int]
    tensors: dict[int, bytes]
    """Where a tensor begins in the file -> its SHA-256; at 0 the whole file's."""


class Digests:
    """All digests known to this process."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` None: nothing is kept."""
        self._folder = folder
        self._tables: dict[FileIdentity, dict[int, bytes]] = {}
        self._unsaved: set[FileIdentity] = set()
        self._lock = threading.Lock()
        self._load_until_s = 0.0

    def known(self, weight: Weight) -> bytes | None:
        """Return a tensor's digest if it is known; None: it would have to be computed."""
        with self._lock:
            return self._table(weight.file.identity).get(weight.start)

    def of(self, weight: Weight) -> bytes:
        """Return a tensor's digest, computed now if need be. Blocks. Raises: WeightsFault."""
        known = self.known(weight)
        if known is not None:
            return known
        digest = weight.digest()
        self.keep(weight, digest)
        if self.known(weight) is None:
            raise WeightsFault(f"{weight.file.path.name} is being changed")
        return digest

    def keep(self, weight: Weight, digest: bytes) -> None:
        """Remember a digest that was computed elsewhere; not of a file that is being changed."""
        if not weight.file.is_unchanged():
            return
        with self._lock:
            self._table(weight.file.identity)[weight.start] = digest
            self._unsaved.add(weight.file.identity)

    def note_load(self) -> None:
        """A load is under way: preparing waits, for the load computes what it needs, and has the cores."""
        self._load_until_s = time.monotonic() + LOAD_QUIET_S

    def prepare(self, file: WeightFile, stop: Callable[[], bool]) -> None:
        """Compute what is not known of a file, in its order, until `stop()`; keep it. Blocks."""
        try:
            for place in sorted(file.tensors.values(), key=lambda place: place.offset):
                while time.monotonic() < self._load_until_s and not stop():
                    time.sleep(LOAD_QUIET_S / 10)
                if stop():
                    return
                if place.size_bytes:
                    self.of(file.weight(place))
        except WeightsFault as fault:
            _log.info("digests not prepared: %s", fault)
        finally:
            self.save()

    def save(self) -> None:
        """Keep what is new on disk. A disk that does not take it costs the next start some hashing."""
        if self._folder is None:
            return
        with self._lock:
            fresh = {who: dict(self._tables.get(who, {})) for who in self._unsaved}
            self._unsaved.clear()
        for identity, tensors in fresh.items():
            try:
                _write(self._folder / _name(identity), _Kept(_numbers(identity), tensors))
            except OSError as error:
                _log.warning("digests are not kept: %s", error)

    def _table(self, identity: FileIdentity) -> dict[int, bytes]:
        """Return a file's table, the last used last; the lock is held."""
        table = self._tables.pop(identity, None)
        if table is None:
            table = self._load(identity)
        self._tables[identity] = table
        while len(self._tables) > FILES_MAX:
            oldest = next(iter(self._tables))
            del self._tables[oldest]
            self._unsaved.discard(oldest)
        return table

    def _load(self, identity: FileIdentity) -> dict[int, bytes]:
        if self._folder is None:
            return {}
        path = self._folder / _name(identity)
        try:
            with path.open("rb") as file:
                kept = msgspec.msgpack.decode(file.read(KEPT_BYTES_MAX), type=_Kept)
            os.utime(path)
        except (OSError, *UNPACK_FAULTS):
            return {}
        whole = all(len(digest) == DIGEST_BYTES for digest in kept.tensors.values())
        return kept.tensors if kept.identity == _numbers(identity) and whole else {}


def _numbers(identity: FileIdentity) -> tuple[int, int, int, int]:
    return (identity.device, identity.inode, identity.size_bytes, identity.changed_ns)


def _name(identity: FileIdentity) -> str:
    digest = hashlib.sha256(repr(_numbers(identity)).encode()).hexdigest()
    return digest[:32] + _SUFFIX


def _write(path: Path, kept: _Kept) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, opened with its mode
        file.write(msgspec.msgpack.encode(kept))
    fresh.replace(path)
    _forget_old(path.parent)


def _forget_old(folder: Path) -> None:
    kept = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-FILES_MAX]:
        path.unlink(missing_ok=True)
