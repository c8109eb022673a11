"""Versions N-1, N and N+1 of the protocol in one mesh: they find, miss, lose and understand each other."""

from typing import Any

import msgspec
import pytest

from nodes.mesh import codec
from nodes.mesh.announcement import Announcement
from nodes.mesh.gossip_events import AnnouncementChanged, LoadChanged, NoticeIssued
from nodes.mesh.messages import Accusation, Body, Claim, Digests, Gossip, Ping, RecordLine
from nodes.mesh.records import believed, id_of_key, parse_record, signed_content
from tests.sim.cluster import EPOCH_MS, Cluster, announcement
from tests.sim.dialects import mixed, narrowed, widened
from tests.sim.identities import identity, key_of
from tests.sim.parts import Faults


def _mesh(seed: int, size: int = 9, faults: Faults | None = None) -> Cluster:
    cluster = Cluster(size, seed, faults, make=mixed, warm=False)
    cluster.run(10)
    return cluster


@pytest.mark.parametrize("seed", [1, 2])
def test_nodes_of_three_versions_find_each_other_and_agree(seed: int) -> None:
    cluster = _mesh(seed, faults=Faults(loss=0.02))
    assert cluster.converged()
    assert sum(n.gossip.counters.get("datagrams_refused", 0) for n in cluster.nodes) == 0
    assert sum(n.gossip.counters.get("frames_refused", 0) for n in cluster.nodes) == 0


@pytest.mark.parametrize("victim", [0, 1, 2])
@pytest.mark.parametrize("silent", [False, True])
def test_the_death_of_a_node_of_any_version_is_known_to_all(victim: int, silent: bool) -> None:
    cluster = _mesh(3)
    gone = cluster.nodes[victim]
    cluster.network.kill(gone, silent)
    knows = len(cluster.nodes)
    took = cluster.network.run_until(lambda: cluster.knows_dead(gone.node_id) == knows, 10)
    assert took is not None and took < 6
    cluster.restart(gone.name)
    assert cluster.network.run_until(cluster.converged, 10) is not None
    assert cluster.checkers.settle() == []


def test_changes_and_farewells_cross_the_versions() -> None:
    cluster = _mesh(4)
    for node in cluster.nodes[:3]:
        old = node.gossip.record.body.announcement
        cluster.network.give(
            node, AnnouncementChanged(msgspec.structs.replace(old, memory_bytes=7))
        )
    assert cluster.network.run_until(cluster.converged, 5) is not None
    for leaver in cluster.nodes[3:6]:
        cluster.leave(leaver)
        cluster.run(1)
        assert all(leaver.node_id not in n.views for n in cluster.nodes)
    assert cluster.checkers.deaths == []


def test_load_and_notices_reach_whom_they_can_and_the_old_ones_are_not_disturbed() -> None:
    cluster = _mesh(5)
    current, newer, old = cluster.nodes[1], cluster.nodes[2], cluster.nodes[3]
    cluster.network.give(current, LoadChanged(b"busy"))
    cluster.network.give(
        current, NoticeIssued("drop/tiny", 1, b"genuine", EPOCH_MS // 1000 + 10**6)
    )
    cluster.run(20)
    assert newer.views[current.node_id].load == b"busy" and old.views[current.node_id].load == b""
    assert newer.notices and not old.notices
    assert cluster.converged() and cluster.checkers.settle() == []


# --- shape by shape ---------------------------------------------------------


def test_a_message_of_the_next_version_is_read_as_far_as_it_is_known() -> None:
    accusation = msgspec.Raw(codec.encode_part(Accusation(b"a" * 32, 5, True, b"b" * 32, True)))
    message = codec.decode_datagram(widened(codec.encode(Ping(7, (accusation,), b"busy"))))
    assert isinstance(message, Ping) and (message.seq, message.load) == (7, b"busy")
    first, later = (codec.decode_update(bytes(raw)) for raw in message.updates)
    assert isinstance(first, Accusation) and first.refused
    assert later is None


def test_a_message_of_the_version_before_gets_the_defaults() -> None:
    accusation = msgspec.Raw(codec.encode_part(Accusation(b"a" * 32, 5, True, b"b" * 32, True)))
    message = codec.decode_datagram(narrowed(codec.encode(Gossip((accusation,), b"busy"))))
    assert isinstance(message, Gossip) and message.load == b""
    update = codec.decode_update(bytes(message.updates[0]))
    assert isinstance(update, Accusation) and not update.refused
    digests = codec.encode(Digests(msgspec.Raw(codec.encode_part(b"")), b"", (accusation,)))
    answer = codec.decode_stream(narrowed(digests))
    assert isinstance(answer, Digests) and answer.notices == ()


def _record_with(body: list[Any]) -> bytes:
    encoded = msgspec.msgpack.encode(body)
    digest = codec.body_digest(encoded)
    node_id = bytes.fromhex(id_of_key(key_of("n0001")))
    signature = identity("n0001", 0).sign(signed_content(node_id, 9, 1, False, digest))
    claim = Claim(node_id, 9, 1, False, digest, signature)
    return codec.encode_part(RecordLine(claim, encoded))


def _body(said: Announcement) -> list[Any]:
    body = Body(key_of("n0001"), b"member", b"boot0000", codec.WIRE_VERSION, said)
    fields: list[Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(body))
    return fields


def test_an_announcement_of_the_next_version_is_believed_and_passed_on_unchanged() -> None:
    body = _body(announcement("n0001", "n0001:1", 8, models=3))
    body[4] = [*body[4], {"a": "later field"}, [1, 2, 3]]
    body[4][5][0].append("a model's later field")
    line = _record_with([*body, "a body's later field"])
    record = parse_record(line)
    assert record is not None and believed(identity("n0002", 0), record)
    assert record.body.announcement.name == "n0001"
    assert len(record.body.announcement.on_disk) == 3
    assert record.line == line


def test_an_announcement_of_an_older_version_gets_the_defaults() -> None:
    body = _body(announcement("n0001", "n0001:1", 8))
    body[4] = body[4][:5]
    record = parse_record(_record_with(body))
    assert record is not None and believed(identity("n0002", 0), record)
    assert record.body.announcement.memory_bytes == 8 * 10**9
    assert record.body.announcement.serving == () and not record.body.announcement.force_split
