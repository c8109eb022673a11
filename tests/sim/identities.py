"""Keys of the simulation: as cheap as a hash, and still bound to their owner. Not cryptography."""

import hashlib
from collections.abc import Set

from nodes.mesh.ids import NodeId
from nodes.mesh.records import NodeIdentity, id_of_key


def _sign(public_key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, key=public_key, digest_size=64).digest()


def _verify(public_key: bytes, content: bytes, signature: bytes) -> bool:
    return _sign(public_key, content) == signature


def key_of(name: str) -> bytes:
    return hashlib.sha256(f"key of {name}".encode()).digest()


def node_id_of(name: str) -> NodeId:
    return id_of_key(key_of(name))


def identity(name: str, life: int, revoked: Set[NodeId] = frozenset()) -> NodeIdentity:
    """Return the identity of a name; `revoked` is looked at whenever a member is judged."""
    public_key = key_of(name)
    return NodeIdentity(
        public_key=public_key,
        credential=b"member",
        boot=f"boot{life:08d}".encode(),
        sign=lambda content: _sign(public_key, content),
        verify=_verify,
        accept_member=lambda node_id, key, credential: (
            credential.startswith(b"member") and node_id not in revoked
        ),
        accept_notice=lambda topic, version, body: body.startswith(b"genuine"),
    )
