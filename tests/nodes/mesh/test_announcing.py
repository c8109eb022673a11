"""What a node says of itself: when it is said anew, what it costs, and who believes it."""

from dataclasses import replace

import msgspec

from nodes.mesh.gossip_events import AnnouncementChanged, CredentialRenewed
from nodes.mesh.records import believed, parse_record
from tests.nodes.mesh.gossip_facts import Bench
from tests.sim.cluster import Cluster
from tests.sim.identities import identity


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


def test_the_same_credential_again_changes_nothing() -> None:
    bench = Bench()
    before = bench.node.record
    bench.give(CredentialRenewed(b"member"))
    assert bench.node.record is before
