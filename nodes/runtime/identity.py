"""Who this node is: one Ed25519 key, and the id that follows from it.

Decides how the key is kept (file `key` in the node's home, PKCS 8 PEM, 0600) and when it is refused.
It is made once and never overwritten: a lost key is a new node. Knows nothing of meshes or
credentials. Sources: RFC 8032 (Ed25519), RFC 8410 (its SubjectPublicKeyInfo).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from nodes.mesh.ids import NodeId
from nodes.runtime import private_file

KEY_FILE = "key"
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_WHAT = "this node's key"


class IdentityError(Exception):
    """The node's key cannot be used. The text is one sentence for a person, with what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One node's key. `repr` shows the id only."""

    private_key: Ed25519PrivateKey
    node_id: NodeId

    def __repr__(self) -> str:
        return f"Identity({self.node_id[:16]})"

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes: what others need to verify this node's signatures."""
        return raw_public_key(self.private_key.public_key())

    def sign(self, content: bytes) -> bytes:
        """Return the signature of `content`, 64 bytes."""
        return self.private_key.sign(content)


def raw_public_key(key: Ed25519PublicKey) -> bytes:
    """Return the 32 bytes of a public key."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def node_id_of(public_key: bytes | Ed25519PublicKey) -> NodeId:
    """Return the id that follows from a public key: SHA-256 of its SubjectPublicKeyInfo, in hex.

    Raises:
        ValueError: `public_key` is bytes but not an Ed25519 public key.
    """
    key = (
        Ed25519PublicKey.from_public_bytes(public_key)
        if isinstance(public_key, bytes)
        else public_key
    )
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return NodeId(hashlib.sha256(spki).hexdigest())


def verify(public_key: bytes, signature: bytes, content: bytes) -> bool:
    """Return whether `signature` is that key's signature of `content`; malformed input is simply False."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def ephemeral() -> Identity:
    """Return a new identity that lives in memory only."""
    return _identity(Ed25519PrivateKey.generate())


def load_or_create(home: Path) -> Identity:
    """Return the identity kept in `home`, made at the first call. Two processes at once get the same one.

    Raises:
        IdentityError: the key is broken, others may read it, or it cannot be read or written. An
            existing file is never changed.
    """
    path = home / KEY_FILE
    try:
        content = private_file.read(path, _WHAT)
        if content is None:
            content = _create(path)
    except private_file.PrivateFileError as error:
        raise IdentityError(str(error)) from error
    return _identity(_parse(path, content))


def _create(path: Path) -> bytes:
    content = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        private_file.write(path, content, _WHAT, replace=False)
    except FileExistsError:
        # Another process was first: its key is the node's.
        return private_file.read(path, _WHAT) or b""
    return content


def _parse(path: Path, content: bytes) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(
            f"{path} does not hold a usable key: restore it from a backup, or move it away to "
            "start as a new node (its id and its place in the mesh will be new)."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(
            f"{path} holds a key of another kind than Ed25519: move it away to start as a new "
            "node, or choose another home with MESH_LLM_HOME."
        )
    return key


def _identity(key: Ed25519PrivateKey) -> Identity:
    return Identity(private_key=key, node_id=node_id_of(key.public_key()))
