"""A refused port: evidence at the second time, of this life and this address, without an answer between."""

from nodes.mesh import codec
from nodes.mesh.config import lan
from nodes.mesh.gossip_effects import ProbePort
from nodes.mesh.gossip_events import DatagramReceived, PortRefused
from nodes.mesh.messages import Ack, Ping
from tests.nodes.mesh.gossip_facts import Bench, datagrams, of, record
from tests.sim.identities import node_id_of

PEER, ADDRESS = node_id_of("n0001"), "n0001:1"


def _linked() -> Bench:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0001", 1)
    bench.link("n0002", 2)
    return bench


def _silent_for_a_moment() -> Bench:
    """The link's proof of life is old enough that a refusal counts."""
    bench = _linked()
    bench.run(lan().port_grace_s)
    return bench


def _is_listed(bench: Bench) -> bool:
    return PEER in {view.node_id for view in bench.node.members()}


def test_one_refusal_asks_for_a_second_one_and_kills_nobody() -> None:
    bench = _silent_for_a_moment()
    bench.give(PortRefused(PEER, ADDRESS))
    asked = of(bench.run(0.1), ProbePort)
    assert [(probe.peer, probe.address) for probe in asked] == [(PEER, ADDRESS)]
    bench.run(1.0)
    assert _is_listed(bench)


def test_two_refusals_in_a_row_are_a_death() -> None:
    bench = _silent_for_a_moment()
    bench.give(PortRefused(PEER, ADDRESS))
    bench.run(0.06)
    bench.give(PortRefused(PEER, ADDRESS))
    assert not _is_listed(bench)


def test_two_copies_of_one_refusal_are_one() -> None:
    bench = _silent_for_a_moment()
    bench.give(PortRefused(PEER, ADDRESS))
    bench.run(0.001)
    bench.give(PortRefused(PEER, ADDRESS))
    assert _is_listed(bench)


def test_refusals_far_apart_confirm_nothing() -> None:
    bench = _silent_for_a_moment()
    bench.give(PortRefused(PEER, ADDRESS))
    bench.run(lan().port_window_s + 0.1)
    bench.give(PortRefused(PEER, ADDRESS))
    assert _is_listed(bench)


def test_another_of_the_peers_addresses_says_nothing_about_it() -> None:
    bench = _silent_for_a_moment()
    for _ in range(2):
        bench.give(PortRefused(PEER, "172.17.0.1:1"))
        bench.run(0.06)
    assert _is_listed(bench)


def test_an_answered_probe_in_between_takes_the_first_refusal_back() -> None:
    bench = _silent_for_a_moment()
    bench.give(PortRefused(PEER, ADDRESS))
    pings: list[Ping] = []
    while not pings:
        pings = [m for p, m in datagrams(bench.run(0.01)) if p == PEER and isinstance(m, Ping)]
    bench.give(DatagramReceived(PEER, codec.encode(Ack(pings[0].seq))))
    bench.run(0.06)
    bench.give(PortRefused(PEER, ADDRESS))
    assert _is_listed(bench)


def test_refusals_right_after_a_proof_of_life_are_a_reason_to_ask_again_and_no_more() -> None:
    """Seed 10130: two late answers about the life before came when the new one had just been linked."""
    bench = _linked()
    for _ in range(3):
        bench.give(PortRefused(PEER, ADDRESS))
        bench.run(0.06)
    assert _is_listed(bench)
    asked = of(bench.run(lan().port_grace_s), ProbePort)
    assert asked and _is_listed(bench)


def test_a_refusal_of_the_life_before_confirms_nothing_of_the_present_one() -> None:
    """Seed 10437: killed, started again on its port at once, and a late refusal buried the new life."""
    bench = _silent_for_a_moment()
    bench.give(PortRefused(PEER, ADDRESS))
    bench.hear_record(record("n0001", 2_000_000, life=1), "n0002")
    bench.run(0.06)
    bench.give(PortRefused(PEER, ADDRESS))
    assert _is_listed(bench)
