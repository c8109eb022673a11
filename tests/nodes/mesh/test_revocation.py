"""A revoked node is dropped everywhere and never comes back, by whatever way it tries."""

from nodes.mesh import codec
from nodes.mesh.gossip_effects import (
    CloseLink,
    MemberState,
    OpenLink,
    PublishMembers,
    RecordStory,
    SendDatagram,
)
from nodes.mesh.gossip_events import (
    Contact,
    DatagramReceived,
    JoinRequested,
    LinkId,
    LinkUp,
    NoticeIssued,
    PeerRevoked,
)
from nodes.mesh.messages import Ping
from tests.nodes.mesh.gossip_facts import Bench, of, record
from tests.sim.cluster import EPOCH_MS, Cluster
from tests.sim.identities import node_id_of
from tests.sim.parts import SimNode

PEER = node_id_of("n0001")


def _bench() -> Bench:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0002", 2)
    return bench


def test_a_revoked_member_is_dropped_with_its_link_and_said_so_once() -> None:
    bench = _bench()
    bench.link("n0001", 1)
    effects = bench.give(PeerRevoked(PEER))
    told = [v for e in of(effects, PublishMembers) for v in e.changed]
    assert [(v.node_id, v.state) for v in told] == [(PEER, MemberState.DEAD)]
    assert [(c.peer, c.link) for c in of(effects, CloseLink)] == [(PEER, 1)]
    assert [s.kind for s in of(effects, RecordStory)] == ["revoked"]
    assert bench.give(PeerRevoked(PEER)) == []


def test_a_link_that_came_up_a_moment_ago_is_closed_although_its_peer_is_no_member_yet() -> None:
    bench = Bench()
    bench.link("n0001", 7)
    assert [(c.peer, c.link) for c in of(bench.give(PeerRevoked(PEER)), CloseLink)] == [(PEER, 7)]
    assert bench.node.linked == frozenset()


def test_a_link_that_comes_up_after_the_revocation_is_closed_and_nothing_on_it_is_answered() -> (
    None
):
    bench = _bench()
    bench.give(PeerRevoked(PEER))
    effects = bench.link("n0001", 8)
    assert [(c.peer, c.link) for c in of(effects, CloseLink)] == [(PEER, 8)]
    assert of(bench.give(DatagramReceived(PEER, codec.encode(Ping(1)))), SendDatagram) == []


def test_a_revoked_node_comes_back_neither_by_gossip_nor_by_its_own_word_nor_after_an_hour() -> (
    None
):
    bench = _bench()
    bench.link("n0001", 1)
    bench.give(PeerRevoked(PEER))
    for incarnation in (1_000_000, 2_000_000, 3_000_000):
        bench.hear_record(record("n0001", incarnation), "n0002")
        bench.give(LinkUp(PEER, LinkId(incarnation), True, "n0001:1"))
        bench.hear_record(record("n0001", incarnation + 1), "n0002")
        bench.run(4_000)
        assert PEER not in {v.node_id for v in bench.node.members()}
        assert PEER not in bench.node.linked


def test_a_revoked_contact_is_not_dialled_even_by_a_node_that_is_alone() -> None:
    bench = Bench()
    bench.give(
        JoinRequested((Contact(PEER, ("n0001:1",)), Contact(node_id_of("n0002"), ("n0002:1",))))
    )
    bench.give(PeerRevoked(PEER))
    dialled = {e.contact.node_id for e in of(bench.run(200), OpenLink)}
    assert dialled == {node_id_of("n0002")}


def test_a_word_about_this_very_node_is_left_to_the_runtime() -> None:
    bench = _bench()
    assert bench.give(PeerRevoked(bench.node.node_id)) == []


# --- a mesh ---------------------------------------------------------------


def _revoke(cluster: Cluster, subject: SimNode, by: SimNode) -> None:
    """What the operator's word does in a running node."""
    topic, ends_s = f"revoke/{subject.node_id}", EPOCH_MS // 1000 + 10**6
    cluster.network.revoke(by, subject.node_id)
    cluster.network.give(by, NoticeIssued(topic, 1, b"genuine", ends_s))


def _listed_by(cluster: Cluster, subject: SimNode) -> list[str]:
    return [n.name for n in cluster.nodes if n is not subject and subject.node_id in n.views]


def test_a_revocation_drops_its_subject_everywhere_and_it_stays_away_over_a_restart() -> None:
    cluster = Cluster(8, 3, warm=False)
    cluster.run(5)
    subject = cluster.nodes[4]
    _revoke(cluster, subject, cluster.nodes[1])
    took = cluster.network.run_until(lambda: not _listed_by(cluster, subject), 10)
    assert took is not None and took < 2
    cluster.run(200)
    assert _listed_by(cluster, subject) == []
    cluster.network.kill(subject)
    again = cluster.restart(subject.name)
    cluster.run(200)
    assert _listed_by(cluster, again) == []


def test_a_newcomer_and_one_that_was_cut_off_learn_of_the_revocation_and_never_keep_its_subject() -> (
    None
):
    cluster = Cluster(6, 4, warm=False)
    cluster.run(5)
    subject, away = cluster.nodes[2], cluster.nodes[5]
    cluster.partition([away], [n for n in cluster.nodes if n is not away])
    _revoke(cluster, subject, cluster.nodes[1])
    cluster.run(20)
    cluster.heal()
    newcomer = cluster.restart("n0009")
    cluster.run(60)
    assert _listed_by(cluster, subject) == []
    assert subject.node_id in away.revoked and subject.node_id in newcomer.revoked


def test_what_a_revoked_node_says_of_others_harms_nobody() -> None:
    cluster = Cluster(6, 5, warm=False)
    cluster.run(5)
    subject = cluster.nodes[2]
    _revoke(cluster, subject, cluster.nodes[1])
    cluster.run(300)
    others = [n for n in cluster.nodes if n is not subject]
    assert all(o.node_id in n.views for n in others for o in others if o is not n)
