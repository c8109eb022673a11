"""Bytes to messages and back: one version byte, then MessagePack. Hostile bytes end here.

Decides what is refused (`WireError`, counted by the caller) and what is merely not understood and
skipped: an unknown update in a datagram, trailing fields of a newer version. Versions one apart talk to
each other. Decoded updates are remembered by their bytes: the same one arrives many times.
"""

import functools
import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from nodes.mesh import limits
from nodes.mesh.messages import (
    Body,
    Datagram,
    RecordLine,
    StreamMessage,
    Update,
)

WIRE_VERSION = 2
"""Of the messages' shapes. Version 1 had no notices and no `Accusation.refused`."""
_PREFIX = bytes([WIRE_VERSION])
_ACCEPTED = frozenset({WIRE_VERSION - 1, WIRE_VERSION, WIRE_VERSION + 1})
_DIGEST_ENTRY = struct.Struct(">32sQIB")
_CACHED = 4_096
"""Decoded updates that are remembered; one is at most some 700 bytes."""

_encoder = msgspec.msgpack.Encoder()
_datagrams = msgspec.msgpack.Decoder(Datagram)
_streams = msgspec.msgpack.Decoder(StreamMessage)
_updates: msgspec.msgpack.Decoder[Update] = msgspec.msgpack.Decoder(Update)
_lines = msgspec.msgpack.Decoder(RecordLine)
_bodies = msgspec.msgpack.Decoder(Body)


class WireError(ValueError):
    """Bytes from a peer are not a message. The caller counts and drops them."""


def encode(message: Any) -> bytes:
    """Return a message as it travels."""
    return _PREFIX + _encoder.encode(message)


def encode_part(part: Any) -> bytes:
    """Return an update, record line or body, to be embedded as `msgspec.Raw`."""
    return _encoder.encode(part)


def decode_datagram(data: bytes) -> Datagram:
    """Return the message of a datagram.

    Raises:
        WireError: too long, another version, or not a message.
    """
    if len(data) > limits.DATAGRAM_BYTES_MAX:
        raise WireError("datagram is too long")
    message: Datagram = _decode(_datagrams, data)
    return message


def decode_stream(data: bytes) -> StreamMessage:
    """Return the message of a stream's request or answer.

    Raises:
        WireError: too long, another version, or not a message.
    """
    if len(data) > limits.STREAM_FRAME_BYTES_MAX:
        raise WireError("frame is too long")
    message: StreamMessage = _decode(_streams, data)
    return message


def _decode(decoder: "msgspec.msgpack.Decoder[Any]", data: bytes) -> Any:
    if not data or data[0] not in _ACCEPTED:
        raise WireError("unknown wire version")
    try:
        return decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as e:
        raise WireError(str(e)) from e


@functools.lru_cache(maxsize=_CACHED)
def decode_update(raw: bytes) -> Update | None:
    """Return an update, or None where it is not understood (a newer version's, or broken)."""
    try:
        return _updates.decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None


def decode_line(raw: bytes) -> tuple[RecordLine, Body] | None:
    """Return a record's claim and body, or None where it is broken or the digest does not fit."""
    try:
        line = _lines.decode(raw)
        if line.claim.digest != body_digest(line.body):
            return None
        return line, _bodies.decode(line.body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None


def body_of(line: bytes) -> bytes:
    """Return the encoded body inside a record that was decoded before."""
    return _lines.decode(line).body


def body_digest(body: bytes) -> bytes:
    """Return what a claim signs in place of the body."""
    return hashlib.sha256(body).digest()[: limits.DIGEST_BYTES]


def pack_digests(entries: Iterable[tuple[bytes, int, int, int]]) -> bytes:
    """Return (id, incarnation, version, state) rows, 45 bytes each; state 0 alive, 1 dead or left."""
    return b"".join(_DIGEST_ENTRY.pack(*entry) for entry in entries)


def unpack_digests(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Return the rows of `pack_digests`.

    Raises:
        WireError: the length is no whole number of rows.
    """
    if len(data) % _DIGEST_ENTRY.size:
        raise WireError("digests are cut short")
    return _DIGEST_ENTRY.iter_unpack(data)
