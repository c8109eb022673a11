"""Decides what a GGUF file's header says: its keys and values, and where its tensors must lie.

PURE but for reading from the binary file object it is given. Does not know which model makes sense
(`gguf_facts`) nor shards and folders (`gguf_header`). The file may be hostile: every length, count
and loop below has a named bound, nothing recurses, and large arrays are passed over, not kept.

Source: the GGUF specification (ggml/docs/gguf.md), versions 2 and 3, little-endian. Why not
`gguf.GGUFReader`: docs/decisions/0003-gguf-header.md.
"""

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import BinaryIO

from models_registry.gguf_types import TENSOR_BLOCKS

HEADER_BYTES_MAX = 64 * 1024 * 1024
"""Unit: bytes. A 262k-token vocabulary takes 15 MiB; with an embedded tokenizer.json about 45."""
KEYS_MAX = 16_384
"""Key-value pairs. Real files have 20 to 60."""
KEY_BYTES_MAX = 65_535
"""Unit: bytes. The specification's own limit for a key."""
TEXT_BYTES_MAX = 1024 * 1024
"""Unit: bytes. Longer values are passed over. The longest known chat templates are under 64 KiB."""
KEPT_TEXT_BYTES_MAX = 8 * 1024 * 1024
"""Unit: bytes, all kept values together."""
KEPT_ITEMS_MAX = 4096
"""Numbers of an array that are kept: per-layer lists have one for each layer. Longer: only counted."""
TENSORS_MAX = 131_072
"""Tensors of one file. The largest mixtures of experts have a few thousand."""
TENSOR_NAME_BYTES_MAX = 1024
DIMENSIONS_MAX = 8
"""llama.cpp has 4; a newer one may have more, and the sizes below hold for any number."""
WINDOW_BYTES = 1024 * 1024
"""Unit: bytes read at a time, and so the reader's memory."""

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_U64 = struct.Struct("<Q")


class HeaderFault(Exception):
    """The header cannot be believed. Its text is the reason, for people."""


@dataclass(frozen=True, slots=True)
class Counted:
    """An array, or a text, that was passed over: only its length is known."""

    count: int


Value = int | float | bool | str | tuple[int | float | bool, ...] | Counted


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """One tensor and where its bytes are."""

    kind: int
    """ggml's type number."""
    shape: tuple[int, ...]
    offset: int
    """From the beginning of the tensors' data (`Header.data_start`)."""
    size_bytes: int
    """0 where the type is not known here."""


@dataclass(frozen=True, slots=True)
class Header:
    """What one GGUF file's header says."""

    version: int
    values: dict[str, Value]
    tensors: dict[str, TensorPlace]
    data_start: int
    """Where in the file the tensors' data begins."""
    parameters: int
    """Elements of all tensors together."""
    bytes_by_type: dict[str, int]
    """Bytes of the tensors of each known type."""
    needed_bytes: int
    """The file must be at least this long, so that every tensor of known type is whole."""
    digest: str
    """Hex SHA-256 over the header's bytes."""

    @property
    def tensor_names(self) -> frozenset[str]:
        """The names of all tensors."""
        return frozenset(self.tensors)


class _Cursor:
    """Reads forward through a file by a window of bounded size."""

    def __init__(self, file: BinaryIO, file_bytes: int) -> None:
        self._file = file
        self._file_bytes = file_bytes
        self._window = b""
        self._at = 0
        self._window_start = 0
        self._hash = hashlib.sha256()

    @property
    def position(self) -> int:
        return self._window_start + self._at

    def hexdigest(self) -> str:
        """Return the SHA-256 of everything up to the position. To be called once, at the end."""
        self._hash.update(self._window[: self._at])
        return self._hash.hexdigest()

    def _refill(self, wanted: int) -> None:
        """Make `wanted` bytes available after the position."""
        if self.position + wanted > self._file_bytes:
            raise HeaderFault(
                f"it is cut off inside its header: the file ends at byte {self._file_bytes:,}"
                " (a download that did not finish?)"
            )
        if self.position + wanted > HEADER_BYTES_MAX:
            raise HeaderFault(f"its header is over {HEADER_BYTES_MAX // 2**20} MiB")
        self._hash.update(self._window[: self._at])
        rest = self._window[self._at :]
        self._window_start += self._at
        self._at = 0
        more = self._file.read(max(wanted - len(rest), WINDOW_BYTES))
        self._window = rest + more
        if len(self._window) < wanted:
            raise HeaderFault("it became shorter while it was read")

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if self._at + count > len(self._window):
            self._refill(count)
        start = self._at
        self._at += count
        return self._window[start : self._at]

    def skip(self, count: int) -> None:
        """Pass over `count` bytes, a window at a time."""
        if self.position + count > min(self._file_bytes, HEADER_BYTES_MAX):
            self._refill(count)
        while count:
            step = min(count, WINDOW_BYTES)
            self.take(step)
            count -= step

    def number(self, code: str) -> int:
        """Return the next unsigned number of a struct code."""
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize(code)))
        return int(value)

    def text(self, limit: int, what: str) -> str:
        """Return the next string. Raises HeaderFault when it is longer than `limit` bytes."""
        length = self.number("Q")
        if length > limit:
            raise HeaderFault(f"{what} claims to be {length:,} bytes long (limit {limit:,})")
        return self.take(length).decode("utf-8", "replace")

    def skip_texts(self, count: int) -> None:
        """Pass over `count` strings. Written flat: a vocabulary has 150,000 of them."""
        for _ in range(count):
            at = self._at
            if at + 8 > len(self._window):
                self._refill(8)
                at = self._at
            length = _U64.unpack_from(self._window, at)[0]
            self._at = at + 8
            if self._at + length <= len(self._window):
                self._at += length
            else:
                self.skip(length)


def parse(file: BinaryIO, file_bytes: int) -> Header:
    """Return what the header of a GGUF file says; `file` stands at its beginning.

    Raises:
        HeaderFault: not GGUF version 2 or 3, cut off, or a bound is passed; shown to the user.
    """
    cursor = _Cursor(file, file_bytes)
    if cursor.take(4) != b"GGUF":
        raise HeaderFault("it does not begin with the letters GGUF")
    version = _version(cursor)
    tensor_count, key_count = cursor.number("Q"), cursor.number("Q")
    if tensor_count > TENSORS_MAX:
        raise HeaderFault(f"its header claims {tensor_count:,} tensors (limit {TENSORS_MAX:,})")
    if key_count > KEYS_MAX:
        raise HeaderFault(f"its header claims {key_count:,} keys (limit {KEYS_MAX:,})")
    values = _values(cursor, key_count)
    return _tensors(cursor, version, tensor_count, values)


def _version(cursor: _Cursor) -> int:
    version = cursor.number("I")
    if version in (2, 3):
        return version
    if version & 0xFFFF == 0 and version:
        raise HeaderFault(
            "it is a big-endian GGUF file, which llama.cpp reads on no common machine"
        )
    if version == 1:
        raise HeaderFault(
            "it is GGUF version 1 (2023), which llama.cpp no longer reads; get a newer file"
        )
    raise HeaderFault(f"it says GGUF version {version:,}, and only versions 2 and 3 are known")


def _values(cursor: _Cursor, count: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    kept_bytes = 0
    for _ in range(count):
        key = cursor.text(KEY_BYTES_MAX, "a key's name")
        if key in values:
            raise HeaderFault(f"its header has the key {key[:80]!r} twice")
        value = _value(cursor, cursor.number("I"), key)
        if isinstance(value, str):
            kept_bytes += len(value)
        if kept_bytes > KEPT_TEXT_BYTES_MAX:
            raise HeaderFault(f"its header holds over {KEPT_TEXT_BYTES_MAX // 2**20} MiB of text")
        values[key] = value
    return values


def _value(cursor: _Cursor, kind: int, key: str) -> Value:
    if kind == _STRING:
        length = cursor.number("Q")
        if length > TEXT_BYTES_MAX:
            cursor.skip(length)
            return Counted(length)
        return cursor.take(length).decode("utf-8", "replace")
    if kind == _ARRAY:
        return _array(cursor, key)
    code = _scalar_code(kind, key)
    value: int | float | bool = struct.unpack("<" + code, cursor.take(struct.calcsize(code)))[0]
    return value


def _array(cursor: _Cursor, key: str) -> Value:
    kind, count = cursor.number("I"), cursor.number("Q")
    if kind == _ARRAY:
        raise HeaderFault(f"key {key[:80]!r} is a list of lists, which llama.cpp does not read")
    if kind == _STRING:
        # Each string takes 8 bytes at least, so this also bounds the loop over them.
        if count * 8 > HEADER_BYTES_MAX:
            raise HeaderFault(f"key {key[:80]!r} claims {count:,} texts")
        cursor.skip_texts(count)
        return Counted(count)
    code = _scalar_code(kind, key)
    size = struct.calcsize(code)
    if count > KEPT_ITEMS_MAX:
        cursor.skip(count * size)
        return Counted(count)
    return struct.unpack(f"<{count}{code}", cursor.take(count * size))


def _scalar_code(kind: int, key: str) -> str:
    code = _SCALARS.get(kind)
    if code is None:
        raise HeaderFault(f"key {key[:80]!r} has the unknown type {kind:,}: the file is damaged")
    return code


def _tensors(cursor: _Cursor, version: int, count: int, values: dict[str, Value]) -> Header:
    tensors: dict[str, TensorPlace] = {}
    parameters = data_bytes = 0
    bytes_by_type: dict[str, int] = {}
    for _ in range(count):
        name = cursor.text(TENSOR_NAME_BYTES_MAX, "a tensor's name")
        if name in tensors:
            raise HeaderFault(f"its header has the tensor {name[:80]!r} twice")
        shape = _shape(cursor, name)
        elements = math.prod(shape)
        kind, offset = cursor.number("I"), cursor.number("Q")
        parameters += elements
        type_name, per_block, block_bytes = TENSOR_BLOCKS.get(kind, (f"type {kind}", 1, 0))
        size = -(-elements // per_block) * block_bytes
        bytes_by_type[type_name] = bytes_by_type.get(type_name, 0) + size
        tensors[name] = TensorPlace(kind, shape, offset, size)
        data_bytes = max(data_bytes, offset + size)
    alignment = _alignment(values)
    data_start = -(-cursor.position // alignment) * alignment
    return Header(
        version=version,
        values=values,
        tensors=tensors,
        data_start=data_start,
        parameters=parameters,
        bytes_by_type=bytes_by_type,
        needed_bytes=data_start + data_bytes if count else cursor.position,
        digest=cursor.hexdigest(),
    )


def _shape(cursor: _Cursor, name: str) -> tuple[int, ...]:
    dimensions = cursor.number("I")
    if dimensions > DIMENSIONS_MAX:
        raise HeaderFault(
            f"tensor {name[:80]!r} claims {dimensions:,} dimensions: the file is damaged"
        )
    return tuple(cursor.number("Q") for _ in range(dimensions))


def _alignment(values: dict[str, Value]) -> int:
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
        raise HeaderFault("its alignment is not a power of two")
    return alignment
