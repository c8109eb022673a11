"""What travels: versions one apart understand each other, hostile bytes are refused, sizes stay bounded."""

import random

import msgspec
import pytest

from nodes.mesh import codec, limits, records
from nodes.mesh.messages import Accusation, Ping
from nodes.mesh.records import make_record, parse_record
from tests.sim.cluster import Cluster, announcement
from tests.sim.identities import identity
from tests.sim.parts import Faults


def _frame(version: int, message: object) -> bytes:
    return bytes([version]) + msgspec.msgpack.encode(message)


def test_ping_of_the_next_version_with_a_trailing_field_is_understood() -> None:
    message = codec.decode_datagram(_frame(codec.WIRE_VERSION + 1, [1, 7, [], b"", "new"]))
    assert isinstance(message, Ping) and message.seq == 7


def test_ping_of_the_former_version_without_load_is_understood() -> None:
    message = codec.decode_datagram(_frame(codec.WIRE_VERSION - 1, [1, 7]))
    assert isinstance(message, Ping) and message.load == b""


def test_accusation_of_the_former_version_lacks_refused() -> None:
    update = codec.decode_update(msgspec.msgpack.encode([2, b"a" * 32, 1, True, b"b" * 32]))
    assert isinstance(update, Accusation) and not update.refused


def test_update_of_an_unknown_kind_is_skipped_not_fatal() -> None:
    assert codec.decode_update(msgspec.msgpack.encode([99, "later"])) is None


@pytest.mark.parametrize("version", [0, codec.WIRE_VERSION + 2, 255])
def test_a_version_further_apart_is_refused(version: int) -> None:
    with pytest.raises(codec.WireError):
        codec.decode_datagram(_frame(version, [1, 7]))


def test_random_and_mangled_bytes_are_refused_or_decoded_never_a_crash() -> None:
    rng = random.Random(1)
    good = codec.encode(
        Ping(7, (msgspec.Raw(codec.encode_part(Accusation(b"a" * 32, 1, True, b"b" * 32))),))
    )
    for _ in range(20_000):
        data = bytearray(good if rng.random() < 0.7 else rng.randbytes(rng.randint(0, 80)))
        for _ in range(rng.randint(0, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        for decode in (codec.decode_datagram, codec.decode_stream):
            try:
                message = decode(bytes(data))
            except codec.WireError:
                continue
            for raw in getattr(message, "updates", ()):
                codec.decode_update(bytes(raw))


def test_a_record_of_fifty_models_is_small_and_a_mangled_one_is_none() -> None:
    record = make_record(identity("a", 0), announcement("a", "10.0.0.1:1", 8, 50), 1, 0)
    assert len(record.line) < 2_500
    assert len(record.update) < 150
    assert parse_record(record.line[:-1]) is None


def test_datagrams_stay_under_the_cap_whatever_happens() -> None:
    cluster = Cluster(40, 3, Faults(loss=0.05), warm=False)
    cluster.run(10)
    for node in cluster.nodes[5:10]:
        cluster.network.kill(node)
    cluster.run(10)
    assert 0 < cluster.network.largest_datagram <= limits.DATAGRAM_BYTES_MAX


def test_distinct_records_of_a_hostile_member_are_not_remembered_without_bound() -> None:
    base = make_record(identity("a", 0), announcement("a", "10.0.0.1:1", 8), 1, 0)
    claim, body = base.claim, codec.body_of(base.line)
    for number in range(6_000):
        renamed = msgspec.structs.replace(claim, version=number)
        assert (
            parse_record(codec.encode_part([msgspec.Raw(codec.encode_part(renamed)), body]))
            is not None
        )
    assert records._record.cache_info().currsize <= 2_048
    before = records._record.cache_info().currsize
    large = make_record(identity("a", 0), announcement("a", "10.0.0.1:1", 8, 180), 1, 0)
    assert len(large.line) > 4_096 and parse_record(large.line) == large
    assert records._record.cache_info().currsize == before
