"""The mesh's signing key: made by the node that starts a mesh, handed to each full member when it joins.

Whoever holds it can admit others: that is what a full member is. Clients hold its public half only.
Rotating makes a new key with the next epoch, which ends the credentials and invite tokens of the
old one. Kept in the home (file `mesh_key`, 0600). Decides nothing about who is admitted.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nodes.runtime import private_file
from nodes.runtime.identity import raw_public_key
from nodes.runtime.unpack import UNPACK_FAULTS

MeshId = NewType("MeshId", str)
"""32 lower-case hex digits: the first 16 bytes of SHA-256 of the mesh's first public signing key."""

MESH_KEY_FILE = "mesh_key"
SEED_BYTES = 32
MAX_EPOCH = 0xFFFF
_WHAT = "the mesh's signing key"


class MeshKeyError(Exception):
    """The mesh key cannot be used. The text is one sentence for a person, with what to do."""


class _Stored(msgspec.Struct, forbid_unknown_fields=False):
    mesh_id: str
    epoch: int
    seed: bytes
    """Base64 in the file, as msgspec writes bytes."""


@dataclass(frozen=True, slots=True)
class MeshKey:
    """One epoch's signing key. `repr` shows the mesh and epoch only."""

    mesh_id: MeshId
    epoch: int
    """From 1; each rotation adds one."""
    private_key: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"MeshKey({self.mesh_id}, epoch {self.epoch})"

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return raw_public_key(self.private_key.public_key())

    @property
    def seed(self) -> bytes:
        """The key itself, 32 bytes: for the join exchange and the file, nowhere else."""
        return self.private_key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())

    def sign(self, content: bytes) -> bytes:
        """Return the mesh's signature of `content`, 64 bytes."""
        return self.private_key.sign(content)

    def derive(self, purpose: bytes) -> bytes:
        """Return 32 secret bytes that every holder of this key gets for the same `purpose` (RFC 5869)."""
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(self.seed)

    def rotated(self) -> "MeshKey":
        """Return a fresh key for the next epoch of the same mesh.

        Raises:
            MeshKeyError: the mesh has had its last epoch.
        """
        if self.epoch >= MAX_EPOCH:
            raise MeshKeyError(
                "this mesh has used up its epochs: start a new mesh and invite again."
            )
        return MeshKey(self.mesh_id, self.epoch + 1, Ed25519PrivateKey.generate())


def fingerprint(public_key: bytes) -> str:
    """Return the short digest of a mesh key's public half, 32 hex digits. Of the first one: the mesh id."""
    return hashlib.sha256(b"mesh-llm mesh key\0" + public_key).hexdigest()[:32]


def new_mesh() -> MeshKey:
    """Return the key of a new mesh, in its first epoch."""
    key = Ed25519PrivateKey.generate()
    return MeshKey(MeshId(fingerprint(raw_public_key(key.public_key()))), 1, key)


def from_seed(mesh_id: str, epoch: int, seed: bytes) -> MeshKey:
    """Return the key that a member received or kept.

    Raises:
        MeshKeyError: the parts are no mesh key, or do not belong together.
    """
    if len(seed) != SEED_BYTES or not 1 <= epoch <= MAX_EPOCH:
        raise MeshKeyError("the mesh key is malformed.")
    private_key = Ed25519PrivateKey.from_private_bytes(seed)
    first = fingerprint(raw_public_key(private_key.public_key()))
    if not _is_mesh_id(mesh_id) or (epoch == 1 and mesh_id != first):
        raise MeshKeyError("the mesh key does not belong to the mesh it names.")
    return MeshKey(MeshId(mesh_id), epoch, private_key)


def load(home: Path) -> MeshKey | None:
    """Return the key kept in `home`; None when the node has never been in a mesh.

    Raises:
        MeshKeyError: the file is broken, others may read it, or it cannot be read.
    """
    path = home / MESH_KEY_FILE
    try:
        content = private_file.read(path, _WHAT)
    except private_file.PrivateFileError as error:
        raise MeshKeyError(str(error)) from error
    if content is None:
        return None
    try:
        stored = msgspec.json.decode(content, type=_Stored)
        return from_seed(stored.mesh_id, stored.epoch, stored.seed)
    except (MeshKeyError, *UNPACK_FAULTS) as error:
        raise MeshKeyError(
            f"{path} does not hold a usable mesh key: restore it from a backup, or move it away "
            "and join again with an invite token from another member."
        ) from error


def save(home: Path, key: MeshKey) -> None:
    """Keep `key` in `home`, in place of the one before: a node is in one mesh at a time.

    Raises:
        MeshKeyError: the file cannot be written; the old one is unchanged.
    """
    content = msgspec.json.encode(_Stored(mesh_id=key.mesh_id, epoch=key.epoch, seed=key.seed))
    try:
        private_file.write(home / MESH_KEY_FILE, content, _WHAT)
    except private_file.PrivateFileError as error:
        raise MeshKeyError(str(error)) from error


def load_or_create(home: Path) -> MeshKey:
    """Return the key kept in `home`, or that of a new mesh which this node now starts.

    Raises:
        MeshKeyError: see `load` and `save`.
    """
    kept = load(home)
    if kept is not None:
        return kept
    key = new_mesh()
    save(home, key)
    return key


def _is_mesh_id(text: str) -> bool:
    return len(text) == 32 and all(c in "0123456789abcdef" for c in text)
