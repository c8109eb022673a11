"""The heavy parts, for threads: a weight is compared as it comes, or fed from a file. No loop in here.

A socket of the loop is used through a copy of its descriptor, while the loop itself waits for the
thread and leaves it alone. Python gives such a copy a timeout without changing the socket's own mode.
"""

import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from models_registry.rpc.digests import Digests
from models_registry.rpc.weights import BLOCK_BYTES, Weight, WeightsFault

PROGRESS_S = 60.0
"""The local engine sends or takes nothing for so long: it is stuck, and its tunnel ends."""


@dataclass(frozen=True, slots=True)
class Same:
    """The data is this weight's, which has this SHA-256."""

    weight: Weight
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Other:
    """The data is none of the candidates'."""

    like: Weight | None
    """Whose first `matched_bytes` are those of the data; None: 0 are."""
    matched_bytes: int
    received: bytes
    """What came behind them. The rest has not been received."""


def compare(
    sock: socket.socket,
    held: bytes,
    size_bytes: int,
    candidates: Sequence[Weight],
    digests: Digests,
) -> Same | Other:
    """Return whose data comes from `sock`; `held` has come already. Nothing of it is kept.

    Raises:
        OSError: the client is gone or stuck.
        WeightsFault: the file cannot be read, so what was compared cannot be told again.
    """
    digests.note_load()
    block = bytearray(min(BLOCK_BYTES, size_bytes))
    own = bytearray(len(block))
    likely: Weight | None = None
    known: bytes | None = None
    fresh = hashlib.sha256()
    with _blocking(sock) as client:
        for at in range(0, size_bytes, BLOCK_BYTES):
            length = min(BLOCK_BYTES, size_bytes - at)
            if length < len(block):
                block, own = bytearray(length), bytearray(length)
            prefix, held = held[:length], held[length:]
            block[: len(prefix)] = prefix
            _receive(client, memoryview(block)[len(prefix) :])
            # Two bytearrays are compared by memcmp; a memoryview would be taken apart item by item.
            for weight in candidates if likely is None else (likely,):
                weight.file.read_into(weight.start + at, memoryview(own))
                if own == block:
                    if likely is None:
                        likely, known = weight, digests.known(weight)
                    break
            else:
                return Other(likely, at, bytes(block) + held)
            if known is None:
                fresh.update(block)  # while it is at hand
    assert likely is not None
    if known is None:
        known = fresh.digest()
        digests.keep(likely, known)
    return Same(likely, known)


def parts_of(weight: Weight, first_bytes: int) -> Iterator[bytes]:
    """Yield the beginning of a weight's data, block by block; the last one only if the file is unchanged.

    Raises:
        WeightsFault: it is not what it was.
    """
    for at in range(0, first_bytes, BLOCK_BYTES):
        block = bytearray(min(BLOCK_BYTES, first_bytes - at))
        weight.file.read_into(weight.start + at, memoryview(block))
        if not weight.file.is_unchanged():
            raise WeightsFault(f"{weight.file.path.name} is being changed")
        yield bytes(block)


def find_same(candidates: Sequence[Weight], sha256: bytes, digests: Digests) -> Weight | None:
    """Return the candidate whose bytes have this SHA-256; None: there is none."""
    digests.note_load()
    for weight in candidates:
        try:
            if digests.of(weight) == sha256:
                return weight
        except WeightsFault:
            continue
    return None


def feed(sock: socket.socket, head: bytes, weight: Weight) -> None:
    """Write a request's head and a weight's data to `sock`, from the file.

    Raises:
        OSError: the rpc-server is gone or stuck.
        WeightsFault: the file changed while it was read: what the rpc-server got is not to be used.
    """
    if not weight.file.is_unchanged():
        raise WeightsFault(f"{weight.file.path.name} has changed")
    with _blocking(sock) as server:
        server.sendall(head)
        at, end = weight.start, weight.start + weight.size_bytes
        block = memoryview(bytearray(min(BLOCK_BYTES, weight.size_bytes)))
        while at < end:
            part = block[: min(len(block), end - at)]
            weight.file.read_into(at, part)
            server.sendall(part)
            at += len(part)
    if not weight.file.is_unchanged():
        raise WeightsFault(f"{weight.file.path.name} was changed while it was read")


def cut(sock: socket.socket) -> None:
    """Close a connection for every thread that still works on it, too."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@contextmanager
def _blocking(sock: socket.socket) -> Iterator[socket.socket]:
    copy = socket.socket(fileno=os.dup(sock.fileno()))
    try:
        copy.settimeout(PROGRESS_S)
        yield copy
    finally:
        copy.close()


def _receive(sock: socket.socket, view: memoryview) -> None:
    done = 0
    while done < len(view):
        count = sock.recv_into(view[done:])
        if count == 0:
            raise ConnectionError("the engine closed its connection within a tensor")
        done += count
