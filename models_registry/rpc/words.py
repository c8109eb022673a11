"""What a tunnel's two ends say to each other beside the engine's bytes. PURE.

The order in which references and bytes were written is the order in which the rpc-server gets them.
A host may be so far ahead of the worker's answers, and no further; the worker holds it to that.
"""

from typing import Final

import msgspec

from models_registry.rpc.protocol import SET_TENSOR_BYTES
from nodes.runtime.unpack import UNPACK_FAULTS

RPC_PURPOSE: Final = "rpc"
"""The lane's tunnels to an rpc-server."""
REFERENCES_AHEAD_MAX: Final = 256
"""References that the worker has not answered yet; then the host waits."""
BYTES_AHEAD_MAX: Final = 1 << 20
"""Bytes behind the oldest reference that is not answered; then the host waits."""
AHEAD_SLACK_BYTES: Final = 1 << 20
"""What a worker allows beyond: the host looks before it writes a piece, not within."""
REFERENCE_MIN_BYTES: Final = 2048
"""A smaller tensor's bytes cost less than a reference to them."""
_DIGEST_BYTES = 32


class OpenRpc(msgspec.Struct, tag="rpc"):
    """A tunnel to the rpc-server on this loopback port of the worker, in this term."""

    port: int
    term: int


class Accepted(msgspec.Struct, tag="accepted"):
    """The worker has these files (`WeightFile.key`): references to others are no use."""

    files: list[str]


class Reference(msgspec.Struct, tag="reference"):
    """A weight that the worker may have: the head of its SET_TENSOR, and its data's size and SHA-256."""

    number: int
    head: bytes
    size_bytes: int
    sha256: bytes


class Fed(msgspec.Struct, tag="fed"):
    """The worker's own bytes were the right ones, and the rpc-server has them."""

    number: int


class Wanted(msgspec.Struct, tag="wanted"):
    """The worker has not these bytes: send them."""

    number: int


class Filled(msgspec.Struct, tag="filled"):
    """The wanted bytes follow, and nothing in between."""

    number: int


Word = Reference | Fed | Wanted | Filled


class WordFault(Exception):
    """The other end says what makes no sense: its tunnel is ended."""


def encode(word: msgspec.Struct) -> bytes:
    """Return a word as bytes."""
    return msgspec.msgpack.encode(word)


def decode(content: bytes) -> Word:
    """Return the word in `content`. Raises: WordFault."""
    try:
        word: Word = msgspec.msgpack.decode(content, type=Word)
    except UNPACK_FAULTS as error:
        raise WordFault("a word that is none") from error
    if isinstance(word, Reference) and (
        len(word.head) != SET_TENSOR_BYTES
        or len(word.sha256) != _DIGEST_BYTES
        or word.size_bytes <= 0
    ):
        raise WordFault("a reference that is none")
    return word


def decode_open(content: bytes) -> OpenRpc:
    """Return what a peer asks for. Raises: WordFault."""
    try:
        return msgspec.msgpack.decode(content, type=OpenRpc)
    except UNPACK_FAULTS as error:
        raise WordFault("an opening that is none") from error


def decode_accepted(content: bytes) -> Accepted:
    """Return what the worker has. Raises: WordFault."""
    try:
        return msgspec.msgpack.decode(content, type=Accepted)
    except UNPACK_FAULTS as error:
        raise WordFault("an acceptance that is none") from error
