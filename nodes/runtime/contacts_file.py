"""Where the mesh was last seen (file `contacts` in the home), so that a restarted node finds back alone.

Names no secret. Of another mesh's file nothing is used; a broken one is as good as none, because tokens
and inbound contact lead back as well.
"""

from pathlib import Path

import msgspec

from nodes.mesh.gossip_events import Contact
from nodes.mesh.ids import NodeId
from nodes.runtime import private_file
from nodes.runtime.unpack import UNPACK_FAULTS

CONTACTS_FILE = "contacts"
_WHAT = "the list of known machines"


class _Stored(msgspec.Struct):
    mesh_id: str
    contacts: list[tuple[str | None, list[str]]]


def load(home: Path, mesh_id: str) -> tuple[Contact, ...]:
    """Return the contacts kept for this mesh, best first; none when there is no usable file."""
    try:
        content = private_file.read(home / CONTACTS_FILE, _WHAT)
        stored = msgspec.json.decode(content or b"", type=_Stored)
    except (private_file.PrivateFileError, *UNPACK_FAULTS):
        return ()
    if stored.mesh_id != mesh_id:
        return ()
    return tuple(Contact(NodeId(i) if i else None, tuple(a)) for i, a in stored.contacts)


def save(home: Path, mesh_id: str, contacts: tuple[Contact, ...]) -> None:
    """Keep the contacts in place of those before.

    Raises:
        PrivateFileError: they cannot be written; the old file is unchanged.
    """
    lines = [(c.node_id, list(c.addresses)) for c in contacts]
    content = msgspec.json.encode(_Stored(mesh_id, [(i, a) for i, a in lines]))
    private_file.write(home / CONTACTS_FILE, content, _WHAT)
