"""Probes: one a period, repeated once, then relays; and what a stall of this node itself makes of them."""

from itertools import pairwise

import msgspec
import pytest

from nodes.mesh import codec, limits
from nodes.mesh.config import lan
from nodes.mesh.events import TimePassed
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.gossip_events import DatagramReceived
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import Accusation, Ack, Datagram, Nack, Ping, PingRequest, RelayAck
from tests.nodes.mesh.gossip_facts import Bench, datagrams
from tests.sim.cluster import Cluster
from tests.sim.identities import node_id_of
from tests.sim.parts import Faults

PEER, OTHER = node_id_of("n0001"), node_id_of("n0002")


def _linked(*names: str) -> Bench:
    bench = Bench()
    bench.know(names)
    for number, name in enumerate(names, 1):
        bench.link(name, number)
    return bench


def _sent(bench: Bench, to: str, since: int = 0) -> list[tuple[float, Datagram]]:
    found = []
    for at, effect in bench.told[since:]:
        found += [(at, m) for peer, m in datagrams([effect]) if peer == to]
    return found


def _pings(bench: Bench, to: str, since: int = 0) -> list[tuple[float, Ping]]:
    return [(at, m) for at, m in _sent(bench, to, since) if isinstance(m, Ping)]


def _first_ping(bench: Bench) -> Ping:
    while not _pings(bench, PEER):
        bench.run(0.01)
    return _pings(bench, PEER)[0][1]


def _view(bench: Bench) -> MemberView:
    return next(v for v in bench.node.members() if v.node_id == PEER)


def _ack(bench: Bench, seq: int) -> None:
    bench.give(DatagramReceived(PEER, codec.encode(Ack(seq))))


def _run(bench: Bench, duration_s: float) -> None:
    """Let time pass while the other peer answers its pings."""
    end = bench.now + duration_s
    while bench.now < end - 1e-9:
        for effect in bench.run(min(0.01, end - bench.now)):
            for peer, message in datagrams([effect]):
                if peer == OTHER and isinstance(message, Ping):
                    bench.give(DatagramReceived(OTHER, codec.encode(Ack(message.seq))))


def _relayed(bench: Bench) -> list[PingRequest]:
    return [m for _, m in _sent(bench, OTHER) if isinstance(m, PingRequest)]


def test_an_unanswered_ping_is_repeated_once_at_half_the_timeout_under_another_number() -> None:
    bench = _linked("n0001")
    _first_ping(bench)
    bench.run(lan().probe_timeout_s)
    (first_at, first), (again_at, again) = _pings(bench, PEER)
    assert again_at - first_at == pytest.approx(lan().probe_timeout_s / 2)
    assert again.seq != first.seq


def test_an_answered_ping_is_not_repeated() -> None:
    bench = _linked("n0001")
    _ack(bench, _first_ping(bench).seq)
    bench.run(0.2)
    assert len(_pings(bench, PEER)) == 1


def test_a_lost_ping_whose_repetition_is_answered_ranks_nobody_last_and_measures_the_second() -> (
    None
):
    bench = _linked("n0001")
    _first_ping(bench)
    bench.run(0.2)
    again = _pings(bench, PEER)[1][1]
    _ack(bench, again.seq)
    bench.run(0.15)
    view = _view(bench)
    assert not view.rank_last
    assert view.rtt_s == pytest.approx(0.05, abs=0.02)


def test_a_slow_answer_to_the_first_ping_measures_the_first() -> None:
    bench = _linked("n0001")
    first = _first_ping(bench)
    bench.run(0.25)
    _ack(bench, first.seq)
    assert _view(bench).rtt_s == pytest.approx(0.25, abs=0.02)


def test_no_answer_at_all_ranks_last_at_the_timeout_and_asks_relays() -> None:
    bench = _linked("n0001", "n0002")
    _first_ping(bench)
    _run(bench, lan().probe_timeout_s - 0.01)
    assert not _view(bench).rank_last
    _run(bench, 0.02)
    assert _view(bench).rank_last and _view(bench).state is MemberState.ALIVE
    assert [m.target for m in _relayed(bench)] == [bytes.fromhex(PEER)]


def test_a_relay_that_heard_the_target_prevents_the_suspicion_but_not_the_last_rank() -> None:
    bench = _linked("n0001", "n0002")
    _first_ping(bench)
    _run(bench, lan().probe_timeout_s + 0.01)
    bench.give(DatagramReceived(OTHER, codec.encode(RelayAck(_relayed(bench)[0].seq))))
    _run(bench, 0.19)
    assert _view(bench).rank_last and _view(bench).state is MemberState.ALIVE


def test_without_any_answer_the_target_is_suspected_at_the_end_of_the_period_and_told_so() -> None:
    bench = _linked("n0001", "n0002")
    _first_ping(bench)
    _run(bench, lan().probe_interval_s + 0.05)
    assert _view(bench).state is MemberState.SUSPECT
    told = len(bench.told)
    _run(bench, 1.0)
    aboard = [
        codec.decode_update(bytes(p.updates[0])) for _, p in _pings(bench, PEER, told) if p.updates
    ]
    assert any(isinstance(u, Accusation) and u.node_id == bytes.fromhex(PEER) for u in aboard)


@pytest.mark.parametrize(("says_no", "score"), [(True, 0), (False, 1)])
def test_a_relay_that_does_not_even_say_no_makes_this_node_doubt_itself(
    says_no: bool, score: int
) -> None:
    bench = _linked("n0001", "n0002")
    _first_ping(bench)
    _run(bench, lan().probe_timeout_s + 0.01)
    if says_no:
        bench.give(DatagramReceived(OTHER, codec.encode(Nack(_relayed(bench)[0].seq))))
    bench.run(0.195)
    assert _view(bench).state is MemberState.SUSPECT
    assert bench.node.health_score == score


def test_probes_run_for_others_are_bounded_and_further_ones_get_a_nack_at_once() -> None:
    bench = _linked("n0001", "n0002")
    told = len(bench.told)
    for seq in range(limits.RELAYS_IN_FLIGHT_MAX + 5):
        request = codec.encode(PingRequest(seq, bytes.fromhex(PEER)))
        bench.give(DatagramReceived(OTHER, request))
    nacks = [m for _, m in _sent(bench, OTHER, told) if isinstance(m, Nack)]
    assert len(nacks) == 5
    bench.run(1.0)
    request = codec.encode(PingRequest(999, bytes.fromhex(PEER)))
    before = len(bench.told)
    bench.give(DatagramReceived(OTHER, request))
    assert len(_pings(bench, PEER, before)) == 1, "the places are free again"


def test_with_three_peers_or_fewer_all_are_probed_in_every_period_with_more_one_in_turn() -> None:
    for peers, expected in ((3, 20), (10, 2)):
        names = [f"n{i:04d}" for i in range(1, peers + 1)]
        bench = _linked(*names)
        answered = 0
        for _ in range(1_000):
            for effect in bench.run(0.01):
                for peer, message in datagrams([effect]):
                    if isinstance(message, Ping):
                        answered += 1
                        bench.give(DatagramReceived(peer, codec.encode(Ack(message.seq))))
        assert answered / peers == pytest.approx(expected, abs=1)


def test_every_target_has_its_turn_in_a_round() -> None:
    names = [f"n{i:04d}" for i in range(1, 11)]
    bench = _linked(*names)
    order: list[NodeId] = []
    for _ in range(2_000):
        for effect in bench.run(0.01):
            for peer, message in datagrams([effect]):
                if isinstance(message, Ping):
                    order.append(peer)
                    bench.give(DatagramReceived(peer, codec.encode(Ack(message.seq))))
    for peer in set(order):
        places = [i for i, p in enumerate(order) if p == peer]
        assert all(b - a < 2 * len(names) for a, b in pairwise(places))


def test_what_a_stalled_node_missed_is_no_evidence_against_others() -> None:
    bench = _linked("n0001", "n0002")
    _first_ping(bench)
    bench.now += 3.0
    bench.give(TimePassed())
    assert bench.node.health_score > 0
    bench.run(lan().probe_timeout_s - 0.05)
    assert all(v.state is MemberState.ALIVE for v in bench.node.members())


@pytest.mark.parametrize("loss", [0.05, 0.1])
def test_lost_datagrams_seldom_rank_a_healthy_member_last(loss: float) -> None:
    cluster = Cluster(5, 8, Faults(loss=loss))
    cluster.run(10)
    late = looks = 0
    for _ in range(600):
        cluster.run(0.25)
        for node in cluster.nodes:
            looks += len(node.views)
            late += sum(view.rank_last for view in node.views.values())
    assert late / looks < 0.05
    assert cluster.checkers.deaths == []


def test_bytes_that_are_no_message_are_counted_and_change_nothing() -> None:
    bench = _linked("n0001")
    before = bench.node.members()
    for data in (b"", b"\x02", b"\xff\x00", codec.encode(Ping(1))[:-1], bytes(2_000)):
        assert bench.give(DatagramReceived(PEER, data)) == []
    assert bench.node.counters["datagrams_refused"] == 5
    stranger = DatagramReceived(node_id_of("n0099"), codec.encode(Ping(1, (msgspec.Raw(b"\xc0"),))))
    assert bench.give(stranger) == []
    assert bench.node.counters["datagrams_without_link"] == 1
    assert bench.node.members() == before
