"""What routing must know of a member is published in the very event in which this node learns it."""

import msgspec

from nodes.mesh import codec
from nodes.mesh.events import TimePassed
from nodes.mesh.gossip_effects import GossipEffect, MemberState, MemberView, PublishMembers
from nodes.mesh.gossip_events import DatagramReceived, LinkDown, LinkEnd, LinkId, PortRefused
from nodes.mesh.messages import Accusation, Ack, Claim, Gossip, Ping
from tests.nodes.mesh.gossip_facts import Bench, datagrams, of, record
from tests.sim.identities import node_id_of

PEER = node_id_of("n0001")


def _view(effects: list[GossipEffect]) -> MemberView:
    views = [v for e in of(effects, PublishMembers) for v in e.changed if v.node_id == PEER]
    assert len(views) == 1, effects
    return views[0]


def _linked() -> Bench:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0001", 1)
    bench.link("n0002", 2)
    return bench


def _hear(bench: Bench, update: Accusation | Claim) -> list[GossipEffect]:
    raw = msgspec.Raw(codec.encode_part(update))
    return bench.give(DatagramReceived(node_id_of("n0002"), codec.encode(Gossip((raw,)))))


def _accusation(dead: bool = False) -> Accusation:
    return Accusation(bytes.fromhex(PEER), 1_000_000, dead, bytes.fromhex(node_id_of("n0002")))


def _next(bench: Bench) -> list[GossipEffect]:
    bench.now = max(bench.now, bench.node.deadline)
    return bench.give(TimePassed())


def test_a_missed_probe_ranks_last_and_the_next_answer_ends_it() -> None:
    bench = _linked()
    for _ in range(40):
        effects = _next(bench)
        if of(effects, PublishMembers) and _view(effects).rank_last:
            break
    view = _view(effects)
    assert view.rank_last and view.state is MemberState.ALIVE
    pings: list[Ping] = []
    while not pings:
        pings = [m for p, m in datagrams(_next(bench)) if p == PEER and isinstance(m, Ping)]
    answered = _view(bench.give(DatagramReceived(PEER, codec.encode(Ack(pings[0].seq)))))
    assert not answered.rank_last or answered.state is MemberState.SUSPECT


def test_a_suspicion_by_anyone_ranks_last_and_its_refutation_ends_it() -> None:
    bench = _linked()
    suspect = _view(_hear(bench, _accusation()))
    assert (suspect.state, suspect.rank_last) == (MemberState.SUSPECT, True)
    refuted = _view(_hear(bench, record("n0001", 1_000_001).claim))
    assert (refuted.state, refuted.rank_last) == (MemberState.ALIVE, False)


def test_a_port_that_is_refused_twice_is_a_death_at_the_second_refusal() -> None:
    bench = _linked()
    assert of(bench.give(PortRefused(PEER, "n0001:1")), PublishMembers) == []
    bench.run(0.1)
    assert _view(bench.give(PortRefused(PEER, "n0001:1"))).state is MemberState.DEAD


def test_a_farewell_is_published_as_it_comes() -> None:
    bench = _linked()
    left = record("n0001", 1_000_000, 1, left=True)
    assert _view(_hear(bench, left.claim)).state is MemberState.LEFT


def test_a_changed_announcement_is_published_as_it_comes() -> None:
    bench = _linked()
    assert _view(bench.hear_record(record("n0001", 1_000_000, 5))).version == 5


def test_a_link_that_ends_takes_the_figures_with_it_at_once() -> None:
    bench = _linked()
    view = _view(bench.give(LinkDown(PEER, LinkId(1), LinkEnd.LOST)))
    assert view.rtt_s is None and view.load == b""
