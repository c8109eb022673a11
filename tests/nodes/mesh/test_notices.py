"""Notices: what no member owns and all should know. Issued, spread, deduplicated, expiring, bounded."""

import msgspec

from nodes.mesh import codec, limits
from nodes.mesh.gossip_effects import PublishNotice, RecordStory
from nodes.mesh.gossip_events import DatagramReceived, NoticeIssued
from nodes.mesh.messages import Digests, Gossip, Notice, Sync
from tests.nodes.mesh.gossip_facts import Bench, datagrams, of, record
from tests.sim.cluster import EPOCH_MS, Cluster
from tests.sim.identities import node_id_of
from tests.sim.parts import Faults, SimNode

FAR_S = EPOCH_MS // 1000 + 10**6
START_S = 1_000
"""Unix time of a bench's node at its start: its incarnation in seconds."""


def _issue(
    topic: str = "drop/tiny", version: int = 1, ends_s: int = FAR_S, body: bytes = b"genuine"
) -> NoticeIssued:
    return NoticeIssued("drop/tiny", version, b"genuine", ends_s)


def _linked() -> Bench:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0001", 1)
    bench.link("n0002", 2)
    return bench


def _heard(bench: Bench, notice: Notice, peer: str = "n0001") -> list[PublishNotice]:
    raw = msgspec.Raw(codec.encode_part(notice))
    event = DatagramReceived(node_id_of(peer), codec.encode(Gossip((raw,))))
    return of(bench.give(event), PublishNotice)


def _notices(effects: list) -> list[str]:
    found = []
    for _, message in datagrams(effects):
        for raw in message.updates:
            update = codec.decode_update(bytes(raw))
            if isinstance(update, Notice):
                found.append(update.topic)
    return found


def _topics(node: SimNode) -> list[str]:
    return sorted(topic for topic, _, _ in node.notices)


# --- one node -------------------------------------------------------------


def test_an_issued_notice_is_told_to_every_link_at_once_and_then_a_limited_number_of_times() -> (
    None
):
    bench = _linked()
    assert len(_notices(bench.give(_issue()))) == 2
    told = len(_notices(bench.run(30)))
    assert 1 <= told <= 8
    assert _notices(bench.run(60)) == []


def test_a_notice_is_published_once_and_only_a_newer_version_again() -> None:
    bench = _linked()
    notice = Notice("drop/tiny", 5, b"genuine 5", FAR_S)
    assert [n.body for n in _heard(bench, notice)] == [b"genuine 5"]
    assert _heard(bench, notice, "n0002") == []
    assert _heard(bench, Notice("drop/tiny", 4, b"genuine 4", FAR_S)) == []
    assert [n.body for n in _heard(bench, Notice("drop/tiny", 6, b"genuine 6", FAR_S))] == [
        b"genuine 6"
    ]


def test_a_forged_notice_is_refused_counted_and_not_spread() -> None:
    bench = _linked()
    assert _heard(bench, Notice("drop/tiny", 5, b"forged", FAR_S)) == []
    assert _notices(bench.run(10)) == []
    assert bench.node.counters["notices_refused"] == 1


def test_an_expired_notice_is_refused_and_a_held_one_is_forgotten_when_it_expires() -> None:
    bench = _linked()
    assert _heard(bench, Notice("drop/tiny", 5, b"genuine", START_S - 1)) == []
    assert bench.node.counters["notices_expired"] == 1
    before = bench.node._core.table_hash
    assert _heard(bench, Notice("drop/tiny", 5, b"genuine", START_S + 90))
    assert bench.node._core.table_hash != before
    bench.run(181)
    assert bench.node._core.table_hash == before
    assert _held_by(bench) == set()


def test_a_notice_that_nobody_would_accept_is_said_to_the_operator_instead_of_spread() -> None:
    bench = _linked()
    effects = bench.give(_issue(ends_s=START_S - 1))
    assert [s.kind for s in of(effects, RecordStory)] == ["notice_refused"]
    assert _notices(effects) == []


def _held_by(bench: Bench) -> set[str]:
    """Return the topics that a newcomer would be handed."""
    answer, _ = bench.ask(Sync(msgspec.Raw(record("n0001").line), 12345), "n0001")
    assert isinstance(answer, Digests)
    topics = set()
    for raw in answer.notices:
        notice = codec.decode_update(bytes(raw))
        assert isinstance(notice, Notice)
        topics.add(notice.topic)
    return topics


def test_at_the_bound_those_that_expire_last_are_kept_whatever_the_order_in_which_they_came() -> (
    None
):
    count = limits.NOTICES_MAX + 40
    notices = [Notice(f"drop/{i}", 1, b"genuine", FAR_S + i) for i in range(count)]
    kept = []
    for order in (notices, notices[::-1]):
        bench = _linked()
        for notice in order:
            _heard(bench, notice)
        kept.append(_held_by(bench))
        assert bench.node.counters.get("notices_dropped", 0) in (0, 40)
    assert kept[0] == kept[1] == {f"drop/{i}" for i in range(40, count)}


def test_of_two_notices_of_one_version_every_node_keeps_the_same() -> None:
    two = [Notice("drop/tiny", 5, b"genuine", FAR_S), Notice("drop/tiny", 5, b"genuine", FAR_S + 1)]
    hashes = set()
    for order in (two, two[::-1]):
        bench = _linked()
        published = [n for notice in order for n in _heard(bench, notice)]
        assert len(published) == 1
        hashes.add(bench.node._core.table_hash)
    assert len(hashes) == 1


# --- a mesh ---------------------------------------------------------------


def test_a_notice_reaches_a_whole_lossy_mesh_in_seconds_each_node_once() -> None:
    cluster = Cluster(40, 3, Faults(loss=0.05))
    cluster.run(5)
    issuer, *others = cluster.nodes
    cluster.network.give(issuer, _issue())
    took = cluster.network.run_until(lambda: all(n.notices for n in others), 10)
    assert took is not None and took < 3
    cluster.run(30)
    assert all(_topics(n) == ["drop/tiny"] for n in others)


def test_a_newcomer_is_handed_what_was_issued_before_it_came() -> None:
    cluster = Cluster(4, 4, warm=False)
    cluster.run(5)
    cluster.network.give(cluster.nodes[2], _issue())
    cluster.run(20)
    newcomer = cluster.restart("n0009")
    assert cluster.network.run_until(lambda: bool(newcomer.notices), 3) is not None


def test_a_notice_issued_on_one_side_of_a_partition_reaches_the_other_after_it_healed() -> None:
    cluster = Cluster(6, 5, warm=False)
    cluster.run(5)
    cluster.partition(cluster.nodes[:3], cluster.nodes[3:])
    cluster.run(2)
    cluster.network.give(cluster.nodes[0], _issue())
    cluster.run(30)
    assert [bool(n.notices) for n in cluster.nodes[1:]] == [True, True, False, False, False]
    cluster.heal()
    reached = cluster.network.run_until(lambda: all(n.notices for n in cluster.nodes[1:]), 30)
    assert reached is not None


def test_whoever_missed_all_gossip_of_a_notice_gets_it_by_the_next_sync_although_tables_are_equal() -> (
    None
):
    cluster = Cluster(5, 6, warm=False)
    cluster.run(5)
    cluster.network.faults.loss = 0.999  # streams are repeated until they arrive, datagrams are not
    cluster.network.give(cluster.nodes[0], _issue())
    cluster.run(1.5)
    cluster.network.faults.loss = 0.0
    cluster.run(60)
    assert all(n.notices for n in cluster.nodes[1:])
    assert cluster.converged()
