"""The two messages of `mesh-join/1`: a token for a credential. Pure; every length is capped."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from nodes.runtime.token import MAX_TOKEN_CHARS
from nodes.runtime.trust import MAX_REVOCATIONS
from nodes.runtime.trust_records import Revocation
from nodes.runtime.unpack import UNPACK_FAULTS

JOIN_KIND = "join"
REQUEST_MAX_BYTES = 8 << 10
ANSWER_MAX_BYTES = 512 << 10
MEMBERS_MAX = 64
_Short = Annotated[str, Meta(max_length=128)]


_Message = TypeVar("_Message", "JoinRequest", "JoinAnswer")


class MessageError(Exception):
    """The other side's message is malformed."""


class JoinRequest(msgspec.Struct, kw_only=True):
    """What the joining side asks. Its id is the one that the handshake proved, not told here."""

    version: int = 1
    token: Annotated[str, Meta(max_length=MAX_TOKEN_CHARS)]
    client: bool = False
    name: _Short = ""
    """Its display name, for an operator who approves."""
    software: _Short = ""


class KnownMember(msgspec.Struct, frozen=True):
    """A full member and where it can be dialled."""

    node_id: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=280)], ...], Meta(max_length=16)]
    """``host:port`` or ``[v6]:port``."""


class JoinAnswer(msgspec.Struct, kw_only=True):
    """What the member answers: `code` empty and a credential, or a code of `token_errors`."""

    code: _Short = ""
    credential: Annotated[bytes, Meta(max_length=512)] = b""
    epoch: int = 0
    seed: Annotated[bytes, Meta(max_length=32)] = b""
    """The mesh's signing key; empty for clients."""
    members: Annotated[tuple[KnownMember, ...], Meta(max_length=MEMBERS_MAX)] = ()
    revocations: Annotated[tuple[Revocation, ...], Meta(max_length=MAX_REVOCATIONS)] = ()


def encode(message: JoinRequest | JoinAnswer) -> bytes:
    """Return the message as bytes."""
    return msgspec.msgpack.encode(message)


def decode_request(content: bytes) -> JoinRequest:
    """Return the request.

    Raises:
        MessageError: it is malformed or too long.
    """
    return _decoded(content, JoinRequest)


def decode_answer(content: bytes) -> JoinAnswer:
    """Return the answer.

    Raises:
        MessageError: it is malformed or too long.
    """
    return _decoded(content, JoinAnswer)


def _decoded(content: bytes, kind: type[_Message]) -> _Message:
    try:
        return msgspec.msgpack.decode(content, type=kind)
    except UNPACK_FAULTS as error:
        raise MessageError(f"malformed {kind.__name__}") from error
