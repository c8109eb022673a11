"""After a rotation: how a full member that was away gets the mesh's new signing key from another one.

The key travels on a stream of a proven member link, never in gossip. Asked for by who has seen the
rotation (a genuine record) and still holds the key of before; given to members that are not revoked.
"""

import msgspec

from nodes.runtime import mesh_key
from nodes.runtime.credentials import Role
from nodes.runtime.link import Link
from nodes.runtime.mesh_key import MeshKeyError
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from nodes.runtime.trust import Trust
from nodes.runtime.unpack import UNPACK_FAULTS

KEY_KIND = "mesh-key"
_MAX_BYTES = 256
_TIMEOUT_S = 5.0


class _Handover(msgspec.Struct):
    epoch: int
    seed: bytes


async def give(trust: Trust, link: Link, stream: Stream) -> None:
    """Serve one stream of kind `KEY_KIND`; clients and revoked ids get nothing."""
    key = trust.mesh_key
    if link.role is not Role.MEMBER or trust.is_revoked(link.peer_id) or key is None:
        stream.abort(AbortCode.REFUSED, "the mesh key is for full members")
        return
    await stream.write(msgspec.msgpack.encode(_Handover(key.epoch, key.seed)))
    stream.end()


async def fetch(trust: Trust, link: Link) -> bool:
    """Ask this peer for the newest key; return whether this node has it now.

    False: the peer has none that is newer and belongs to the rotations known here; ask another one.
    """
    try:
        stream = await link.open_stream(KEY_KIND)
        stream.end()
        handed = msgspec.msgpack.decode(
            await stream.read_all(_MAX_BYTES, _TIMEOUT_S), type=_Handover
        )
        key = mesh_key.from_seed(trust.mesh_id, handed.epoch, handed.seed)
    except (StreamAbortedError, MeshKeyError, *UNPACK_FAULTS):
        return False
    trust.add_records([], [], key)
    return trust.mesh_key is not None and trust.mesh_key.epoch == trust.epoch
