"""What of a node's trust outlives the process: revocations, rotations and public keys (file `trust`).

The mesh key has its own file (`mesh_key`); a member signs itself a new credential at each start.
"""

from pathlib import Path

import msgspec

from nodes.runtime import private_file
from nodes.runtime.trust import Trust
from nodes.runtime.trust_records import Epoch, Revocation, Rotation
from nodes.runtime.unpack import UNPACK_FAULTS

TRUST_FILE = "trust"
_WHAT = "the list of revoked nodes"


class TrustFileError(Exception):
    """The records cannot be read or kept. One sentence for a person, with what to do."""


class _Stored(msgspec.Struct):
    mesh_id: str
    revocations: tuple[Revocation, ...]
    rotations: tuple[Rotation, ...]
    epochs: dict[int, Epoch] = {}


def load(home: Path, trust: Trust) -> None:
    """Give `trust` the records kept for its mesh; those of another mesh are left out.

    Raises:
        TrustFileError: the file is broken or cannot be read. Starting without it could let revoked
            nodes in, so nothing starts.
    """
    path = home / TRUST_FILE
    try:
        content = private_file.read(path, _WHAT)
        if content is None:
            return
        stored = msgspec.json.decode(content, type=_Stored)
    except private_file.PrivateFileError as error:
        raise TrustFileError(str(error)) from error
    except UNPACK_FAULTS as error:
        raise TrustFileError(
            f"{path} is broken, and without it revoked nodes could come in: restore it, or move it "
            "away if no node was ever revoked (other members tell this node again)."
        ) from error
    if stored.mesh_id == trust.mesh_id:
        trust.restore_epochs(stored.epochs)
        trust.add_records(stored.revocations, stored.rotations)


def save(home: Path, trust: Trust) -> None:
    """Keep what `trust` knows, in place of what was kept.

    Raises:
        TrustFileError: it cannot be written; the old file is unchanged.
    """
    revocations, rotations = trust.records()
    content = msgspec.json.encode(_Stored(trust.mesh_id, revocations, rotations, trust.epochs()))
    try:
        private_file.write(home / TRUST_FILE, content, _WHAT)
    except private_file.PrivateFileError as error:
        raise TrustFileError(str(error)) from error
