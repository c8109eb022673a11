"""A passive client believes a table only from who signed it, and whole."""

import msgspec
import pytest

from nodes.mesh.announcement import Announcement
from nodes.runtime import client_table, identity, mesh_key
from nodes.runtime.client_table import TableError
from nodes.runtime.trust import Trust

OWN = Announcement(name="box-a")


def member() -> Trust:
    return Trust(identity.ephemeral(), mesh_key.new_mesh())


def test_table_of_its_signer_is_taken() -> None:
    giver = member()
    told = client_table.decode(client_table.encode(giver, OWN, []), giver.node_id)
    assert [view.announcement.name for view in told.hosts] == ["box-a"]


def test_table_that_another_member_signed_is_refused() -> None:
    content = client_table.encode(member(), OWN, [])
    with pytest.raises(TableError, match="not signed by who gave it"):
        client_table.decode(content, member().node_id)


def test_table_that_was_changed_on_its_way_is_refused() -> None:
    giver, other = member(), Announcement(name="box-x")
    table, key, _ = msgspec.msgpack.decode(client_table.encode(giver, other, []))
    _, _, signature = msgspec.msgpack.decode(client_table.encode(giver, OWN, []))
    with pytest.raises(TableError, match="not signed by who gave it"):
        client_table.decode(msgspec.msgpack.encode([table, key, signature]), giver.node_id)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(TableError, match="malformed"):
        client_table.decode(b"\xc1", member().node_id)
