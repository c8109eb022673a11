"""Invite tokens as text: what one line must carry so that a machine which knows nobody can join.

Pure: encodes, decodes and judges; files and the ledger are elsewhere. A token names the mesh, its
issuer and several addresses, and carries a secret to be exchanged for a credential. The secret is a
MAC under the mesh's key (`secret_for`), so any full member can check it without having seen it, and
nobody has to store it. A checksum tells a mangled paste from a wrong token. `repr` hides the secret.
"""

import base64
import binascii
import hashlib
import hmac
import re
import struct
from dataclasses import dataclass, field
from typing import Self

from nodes.mesh.ids import NodeId
from nodes.runtime.address import Address
from nodes.runtime.mesh_key import MAX_EPOCH, MeshId, MeshKey
from nodes.runtime.token_addresses import MAX_ADDRESSES, pack_addresses, unpack_addresses
from nodes.runtime.token_errors import (
    OwnTokenError,
    TokenExpiredError,
    TokenMangledError,
    TokenNotRecognisedError,
    TokenTruncatedError,
    TokenVersionError,
)

PREFIX = "mesh1-"
SECRET_BYTES = 16
TOKEN_ID_BYTES = 6
CHECKSUM_BYTES = 4
MAX_TOKEN_CHARS = 4096
"""Well above any token of ours (16 addresses of 253 characters would not fit: names must be short)."""
MAX_BODY_BYTES = 1024
MAX_USES = 200
"""The ledger remembers each node of a counted token; beyond this a token is better unlimited."""
_CLIENTS_ONLY = 1
_FIXED = struct.Struct(f">HBH32s16s{TOKEN_ID_BYTES}sIH{SECRET_BYTES}s")
"""body length, flags, epoch, issuer, mesh id, token id, expiry, uses, secret."""
_FINGERPRINT_BYTES = 16
"""Follows when the epoch is not the first: in the first, the mesh id is the fingerprint."""
_NOT_ALPHABET = re.compile(r"[^A-Za-z0-9_-]")
_PURPOSE = b"mesh-llm invite token 1"


@dataclass(frozen=True, slots=True)
class InviteToken:
    """One invitation. Two tokens of the same id are the same invitation, whatever their addresses."""

    mesh_id: MeshId
    epoch: int
    """Epoch of the mesh key that vouches for it; rotating the key ends it."""
    key_fingerprint: str
    """Fingerprint of that key: how the joining side knows the right mesh from a wrong one."""
    issuer: NodeId
    token_id: str
    """12 hex digits, for people and the ledger."""
    expires_s: int
    """Unix time."""
    max_uses: int | None
    """How many nodes may join by it; None: any number."""
    secret: bytes = field(repr=False)
    addresses: tuple[Address, ...] = ()
    clients_only: bool = False

    def encode(self) -> str:
        """Return the token as one line of text.

        Raises:
            ValueError: a field is out of its range, or the addresses are too many or too long.
        """
        flags = _CLIENTS_ONLY if self.clients_only else 0
        later = b"" if self.epoch == 1 else bytes.fromhex(self.key_fingerprint)
        tail = later + pack_addresses(self.addresses)
        length = _FIXED.size + len(tail) + CHECKSUM_BYTES
        if length > MAX_BODY_BYTES:
            raise ValueError("the addresses of an invite token are too long together")
        try:
            body = _FIXED.pack(
                length, flags, self.epoch, bytes.fromhex(self.issuer), bytes.fromhex(self.mesh_id),
                bytes.fromhex(self.token_id), self.expires_s, self.max_uses or 0, self.secret,
            ) + tail  # fmt: skip
        except struct.error as error:
            raise ValueError(f"not a possible invite token: {error}") from error
        return PREFIX + _letters(body + _checksum(body))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the token that `text` holds; line breaks and quotes around or inside it do not matter.

        Raises:
            TokenError: the subclass says why it is none: not recognised, version, truncated, mangled.
        """
        body = _body_of(text)
        (_, flags, epoch, issuer, mesh_id, token_id, expires_s, uses, secret) = _FIXED.unpack_from(
            body
        )
        if flags & ~_CLIENTS_ONLY or not 1 <= epoch <= MAX_EPOCH:
            raise TokenVersionError
        tail = body[_FIXED.size : -CHECKSUM_BYTES]
        later = b"" if epoch == 1 else tail[:_FINGERPRINT_BYTES]
        try:
            addresses = unpack_addresses(tail[len(later) :])
        except ValueError as error:
            raise TokenMangledError from error
        return cls(
            mesh_id=MeshId(mesh_id.hex()), epoch=epoch, key_fingerprint=(later or mesh_id).hex(),
            issuer=NodeId(issuer.hex()), token_id=token_id.hex(), expires_s=expires_s,
            max_uses=uses or None, secret=secret, addresses=addresses,
            clients_only=bool(flags & _CLIENTS_ONLY),
        )  # fmt: skip

    def check(self, own_id: NodeId, now_s: float) -> None:
        """Return when it makes sense to dial with this token.

        Raises:
            OwnTokenError: this node issued it.
            TokenExpiredError: its time is over by this machine's clock.
        """
        if self.issuer == own_id:
            raise OwnTokenError
        if now_s >= self.expires_s:
            raise TokenExpiredError(self.expires_s, now_s)


def secret_for(key: MeshKey, token: InviteToken) -> bytes:
    """Return the secret that makes `token` genuine: a MAC over everything that limits it (RFC 2104)."""
    flags = _CLIENTS_ONLY if token.clients_only else 0
    limits = struct.pack(">BHIH", flags, token.epoch, token.expires_s, token.max_uses or 0)
    content = bytes.fromhex(token.mesh_id + token.issuer + token.token_id) + limits
    return hmac.digest(key.derive(_PURPOSE), content, hashlib.sha256)[:SECRET_BYTES]


def is_genuine(key: MeshKey, token: InviteToken) -> bool:
    """Return whether a holder of `key` made `token` and nobody changed its limits since."""
    if (token.mesh_id, token.epoch) != (key.mesh_id, key.epoch):
        return False
    return hmac.compare_digest(secret_for(key, token), token.secret)


def _body_of(text: str) -> bytes:
    """Return the bytes of a token, checksum included and right."""
    compact = "".join(text[: 2 * MAX_TOKEN_CHARS].split()).strip("\"'`<>,;")
    if not compact.startswith(PREFIX):
        known = re.match(r"mesh\d{1,4}-", compact)
        raise TokenVersionError if known else TokenNotRecognisedError
    letters = compact[len(PREFIX) :].rstrip("=")
    if len(letters) > MAX_TOKEN_CHARS or _NOT_ALPHABET.search(letters):
        raise TokenMangledError
    whole = letters[: len(letters) - 1] if len(letters) % 4 == 1 else letters
    try:
        body = base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4))
    except (binascii.Error, ValueError) as error:
        raise TokenMangledError from error
    if len(body) < 2 or len(body) < int.from_bytes(body[:2]) <= MAX_BODY_BYTES:
        raise TokenTruncatedError
    if len(body) < _FIXED.size + CHECKSUM_BYTES or whole != letters:
        raise TokenMangledError
    # One text for one token: unused bits of the last letter count as changed, too.
    if len(body) != int.from_bytes(body[:2]) or _letters(body) != letters:
        raise TokenMangledError
    if _checksum(body[:-CHECKSUM_BYTES]) != body[-CHECKSUM_BYTES:]:
        raise TokenMangledError
    return body


def _letters(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + body).digest()[:CHECKSUM_BYTES]


__all__ = ["MAX_ADDRESSES", "InviteToken", "is_genuine", "secret_for"]
