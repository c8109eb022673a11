"""What members tell each other about trust: who is expelled, and which key is the mesh's now. Pure.

Each record is signed by the mesh key, so it can pass through anybody; records only add up, so the
order in which they arrive does not matter.
"""

import struct

import msgspec

from nodes.mesh.ids import NodeId
from nodes.runtime.identity import verify
from nodes.runtime.mesh_key import MeshKey

_REVOCATION = b"mesh-llm revocation\0"
_ROTATION = b"mesh-llm rotation\0"


class Revocation(msgspec.Struct, frozen=True):
    """`node_id` is admitted no more, whatever credential it shows."""

    node_id: str
    epoch: int
    """Epoch of the key that signed this."""
    made_s: int
    signature: bytes = b""

    def content(self, mesh_id: str) -> bytes:
        """Return the bytes that are signed."""
        numbers = struct.pack(">HI", self.epoch, self.made_s)
        return _REVOCATION + bytes.fromhex(mesh_id) + bytes.fromhex(self.node_id) + numbers


class Rotation(msgspec.Struct, frozen=True):
    """From `made_s` on the mesh signs with `public_key`; signed by the key before."""

    epoch: int
    public_key: bytes
    made_s: int
    signature: bytes = b""

    def content(self, mesh_id: str) -> bytes:
        """Return the bytes that are signed."""
        numbers = struct.pack(">HI", self.epoch, self.made_s)
        return _ROTATION + bytes.fromhex(mesh_id) + self.public_key + numbers


class Epoch(msgspec.Struct, frozen=True):
    """One key of the mesh and from when on it signs."""

    public_key: bytes
    made_s: int


def signed_revocation(key: MeshKey, node_id: NodeId, now_s: float) -> Revocation:
    """Return the mesh's word that `node_id` is out."""
    record = Revocation(node_id, key.epoch, int(now_s))
    return msgspec.structs.replace(record, signature=key.sign(record.content(key.mesh_id)))


def signed_rotation(old: MeshKey, new: MeshKey, now_s: float) -> Rotation:
    """Return the old key's word that `new` follows it."""
    record = Rotation(new.epoch, new.public_key, int(now_s))
    return msgspec.structs.replace(record, signature=old.sign(record.content(old.mesh_id)))


def genuine(record: Revocation | Rotation, mesh_id: str, public_key: bytes) -> bool:
    """Return whether that key signed this record for this mesh; malformed records are simply not."""
    try:
        content = record.content(mesh_id)
    except (ValueError, struct.error):
        return False
    return verify(public_key, record.signature, content)
