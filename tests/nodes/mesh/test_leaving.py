"""A clean leave: known everywhere within half a second, believed from its subject alone."""

import msgspec
import pytest

from nodes.mesh import codec
from nodes.mesh.gossip_effects import (
    GossipEffect,
    LeaveFinished,
    MemberState,
    OpenLink,
    PublishMembers,
    SendAnswer,
)
from nodes.mesh.gossip_events import (
    DatagramReceived,
    LeaveRequested,
    LinkDown,
    LinkEnd,
    LinkId,
    RequestAnswered,
)
from nodes.mesh.messages import Gossip
from nodes.mesh.records import Record, make_record, parse_record
from tests.nodes.mesh.gossip_facts import Bench, datagrams, of, record, requests
from tests.sim.cluster import Cluster, announcement
from tests.sim.identities import identity, node_id_of
from tests.sim.parts import Faults

PEER = node_id_of("n0001")


def _farewell(name: str) -> Record:
    return record(name, 1_000_000, 1, left=True)


def _states(effects: list) -> list[tuple[str, MemberState]]:
    return [(v.node_id, v.state) for e in of(effects, PublishMembers) for v in e.changed]


def _gossip(bench: Bench, update: bytes, source: str = "n0002") -> list[GossipEffect]:
    """Have a linked peer send this update."""
    data = codec.encode(Gossip((msgspec.Raw(update),)))
    return bench.give(DatagramReceived(node_id_of(source), data))


def test_a_leaving_node_says_farewell_three_times_to_each_link_and_is_done_in_time() -> None:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0001", 1)
    bench.link("n0002", 2)
    bench.run(1.0)
    started, before = bench.now, len(bench.told)
    bench.give(LeaveRequested())
    bench.run(2.0)
    since = bench.told[before:]
    done = [at for at, e in since if isinstance(e, LeaveFinished)]
    assert len(done) == 1 and done[0] - started <= 0.5
    for peer in ("n0001", "n0002"):
        farewells = [
            m for p, m in datagrams([e for _, e in since]) if p == node_id_of(peer) and m.updates
        ]
        assert len(farewells) >= 3


def test_a_leaving_node_without_links_is_done_as_well_and_asking_twice_is_asking_once() -> None:
    bench = Bench()
    bench.give(LeaveRequested())
    bench.give(LeaveRequested())
    assert len(of(bench.run(1.0), LeaveFinished)) == 1
    assert of(bench.run(300.0), OpenLink) == []


def test_who_left_is_published_as_left_at_once_and_gossip_does_not_bring_it_back() -> None:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0002", 2)
    assert _states(bench.hear_record(_farewell("n0001"), "n0002")) == [(PEER, MemberState.LEFT)]
    bench.hear_record(record("n0001"), "n0002")
    assert PEER not in {v.node_id for v in bench.node.members()}
    assert PEER not in {e.contact.node_id for e in of(bench.run(120), OpenLink)}, (
        "it is not called back"
    )


def test_who_left_and_starts_again_is_back_by_its_own_contact() -> None:
    cluster = Cluster(4, 3, warm=False)
    cluster.run(8)
    leaver = cluster.nodes[2]
    cluster.leave(leaver)
    cluster.run(2)
    assert all(leaver.node_id not in n.views for n in cluster.nodes)
    cluster.restart(leaver.name)
    took = cluster.network.run_until(cluster.converged, 5)
    assert took is not None and took <= 2


def test_nobody_can_say_farewell_for_another() -> None:
    forged = _farewell("n0001")
    bench = Bench()
    bench.know(["n0001", "n0002"])
    signature_of_another = bytearray(forged.line)
    at = signature_of_another.index(forged.claim.signature)
    signature_of_another[at] ^= 1
    broken = parse_record(bytes(signature_of_another))
    assert broken is not None
    bench.link("n0002", 2)
    bench.hear_record(broken, "n0002")
    assert PEER in {v.node_id for v in bench.node.members()}
    assert bench.node.counters["records_refused"] == 1


def test_a_farewell_is_believed_without_the_body_that_changed_with_it() -> None:
    """Whoever stops gives its models back and leaves at once: a pull of that body would come too late."""
    bench = Bench()
    bench.know(["n0001", "n0002", "n0003"])
    bench.link("n0002", 2)
    bench.link("n0003", 3)
    said = announcement("n0001", "n0001:1", 0)
    farewell = make_record(identity("n0001", 0), said, 1_000_000, 7, left=True)
    assert farewell.claim.digest != record("n0001").claim.digest
    effects = _gossip(bench, farewell.update)
    assert _states(effects) == [(PEER, MemberState.LEFT)]
    assert requests([*effects, *bench.run(0.5)]) == []
    passed_on = [(peer, *map(bytes, m.updates)) for peer, m in datagrams(effects)]
    assert passed_on == [(node_id_of("n0003"), farewell.update)]
    again = _gossip(bench, make_record(identity("n0001", 0), said, 1_000_000, 6).update)
    assert _states(again) == [], "a word of before is no return"


def test_a_farewell_by_another_key_is_refused_without_its_body_too() -> None:
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0002", 2)
    genuine = make_record(identity("n0001", 0), announcement("n0001", "", 0), 1_000_000, 7).claim
    forged = msgspec.structs.replace(genuine, left=True)
    _gossip(bench, codec.encode_part(forged))
    assert PEER in {v.node_id for v in bench.node.members()}
    assert bench.node.counters["claims_refused"] == 1


def test_who_still_lists_one_that_left_is_told_its_farewell_by_the_next_exchange() -> None:
    told, late = Bench("n0002"), Bench("n0003")
    told.know(["n0001", "n0004"])
    told.link("n0004", 4)
    late.know(["n0001"])
    late.link("n0002", 5)
    said = announcement("n0001", "n0001:1", 0)
    farewell = make_record(identity("n0001", 0), said, 1_000_000, 7, left=True)
    _gossip(told, farewell.update, "n0004")
    [(asked, sync)] = requests(told.link("n0003", 5, dialled=True))
    [answer] = of(late.ask(sync, "n0002")[1], SendAnswer)
    [(_, exchange)] = requests(told.give(RequestAnswered(asked.request, answer.data)))
    assert _states(late.ask(exchange, "n0002")[1])[-1] == (PEER, MemberState.LEFT)


def test_a_leaving_node_is_done_as_soon_as_everybody_took_its_farewell() -> None:
    """Who hears a farewell closes the link: that is the acknowledgement."""
    bench = Bench()
    bench.know(["n0001", "n0002"])
    bench.link("n0001", 1)
    bench.link("n0002", 2)
    bench.give(LeaveRequested())
    assert of(bench.give(LinkDown(PEER, LinkId(1), LinkEnd.CLOSED)), LeaveFinished) == []
    last = bench.give(LinkDown(node_id_of("n0002"), LinkId(2), LinkEnd.CLOSED))
    assert len(of(last, LeaveFinished)) == 1
    assert of(bench.run(2.0), LeaveFinished) == []


@pytest.mark.parametrize("size", [3, 10, 60])
def test_a_clean_leave_is_known_everywhere_within_half_a_second(size: int) -> None:
    cluster = Cluster(size, 7, Faults(loss=0.01))
    cluster.run(5)
    leaver = cluster.nodes[1]
    cluster.leave(leaver)
    others = [n for n in cluster.nodes if n is not leaver]
    took = cluster.network.run_until(
        lambda: all(leaver.node_id not in n.views for n in others), 3, 0.01
    )
    assert took is not None and took <= 0.5
    cluster.run(1)
    assert cluster.checkers.deaths == []
