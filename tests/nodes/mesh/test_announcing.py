"""What a node says of itself: when it is said anew, what it costs, and who believes it."""

from dataclasses import replace

import msgspec
import pytest

from nodes.mesh import limits
from nodes.mesh.events import TimePassed
from nodes.mesh.gossip_events import AnnouncementChanged, CredentialRenewed, LoadChanged
from nodes.mesh.records import believed, make_record, parse_record
from tests.nodes.mesh.gossip_facts import Bench, datagrams
from tests.sim.cluster import Cluster, announcement
from tests.sim.identities import identity
from tests.sim.parts import Faults


def test_an_announcement_with_the_same_content_is_not_said_again() -> None:
    bench = Bench()
    before = bench.node.record
    bench.give(AnnouncementChanged(msgspec.structs.replace(before.body.announcement)))
    assert bench.node.record is before


def test_a_changed_announcement_has_the_next_version_of_the_same_incarnation() -> None:
    bench = Bench()
    incarnation, version = bench.node.record.order
    changed = msgspec.structs.replace(bench.node.record.body.announcement, memory_bytes=1)
    bench.give(AnnouncementChanged(changed))
    assert bench.node.record.order == (incarnation, version + 1)


def test_a_renewed_credential_reaches_everyone_and_a_newcomer_who_refuses_the_old_one_learns_it() -> (
    None
):
    """Judges are told apart by what they accept: the newcomer starts when the old credential has ended."""
    cluster = Cluster(4, 1, warm=False)
    cluster.run(5)
    for node in cluster.nodes:
        cluster.network.give(node, CredentialRenewed(b"member renewed"))
    cluster.run(5)
    assert cluster.converged()
    strict = replace(
        identity("n0009", 0), accept_member=lambda node_id, key, shown: shown == b"member renewed"
    )
    for node in cluster.nodes:
        record = parse_record(node.gossip.record.line)
        assert record is not None and believed(strict, record)
        for other in cluster.nodes:
            held = other.gossip._core.members.get(node.node_id)
            assert held is None or believed(strict, held.record)


@pytest.mark.parametrize(("models", "line_bytes"), [(0, 449), (10, 839), (50, 2_441)])
def test_size_of_an_announcement_on_the_wire(models: int, line_bytes: int) -> None:
    """The figures of docs/benchmarks-gossip.md, with a credential as long as real ones are.

    A new field of the announcement may add some bytes to each line: then change both places.
    """
    said = announcement("n0001", "10.0.0.1:7842", 8, models)
    judge = replace(identity("n0001", 0), credential=bytes(156))
    made = make_record(judge, said, 1_790_000_000_000, 7)
    assert len(made.update) == 131, "the claim, which rides in datagrams"
    assert len(made.line) == line_bytes, "claim and body, which are pulled once over a stream"


def test_datagrams_fit_a_packet_with_fifty_models_on_each_node_whatever_happens() -> None:
    cluster = Cluster(30, 5, Faults(loss=0.02), warm=False, models=50)
    cluster.run(10)
    assert all(len(n.gossip.record.body.announcement.on_disk) == 50 for n in cluster.nodes)
    for node in cluster.nodes[5:10]:
        cluster.network.kill(node, silent=True)
    for node in cluster.nodes[10:]:
        changed = msgspec.structs.replace(node.gossip.record.body.announcement, memory_bytes=1)
        cluster.network.give(node, AnnouncementChanged(changed))
        cluster.network.give(node, LoadChanged(bytes(limits.LOAD_BYTES_MAX)))
    for i in range(5):
        cluster.restart(f"n{40 + i:04d}")
    cluster.run(20)
    assert cluster.converged()
    # 1,150 bytes of payload and at most 50 of QUIC's own: under 1,200.
    assert 400 < cluster.network.largest_datagram <= limits.DATAGRAM_BYTES_MAX == 1_150


def test_the_same_credential_again_changes_nothing() -> None:
    bench = Bench()
    before = bench.node.record
    bench.give(CredentialRenewed(b"member"))
    assert bench.node.record is before


def test_a_node_that_is_alone_keeps_its_news_without_ticking_and_tells_them_to_the_first_link() -> (
    None
):
    bench = Bench()
    changed = msgspec.structs.replace(bench.node.record.body.announcement, memory_bytes=1)
    bench.give(AnnouncementChanged(changed))
    bench.run(1.0)
    ticks = 0
    end = bench.now + 3.0
    while bench.node.deadline <= end:
        bench.now = bench.node.deadline
        bench.give(TimePassed())
        ticks += 1
    assert ticks <= 7, "a probe period twice a second, no gossip round ten times"
    bench.know(["n0001"])
    bench.link("n0001", 1)
    told = [bytes(u) for _, m in datagrams(bench.run(0.2)) for u in m.updates]
    assert bench.node.record.update in told
