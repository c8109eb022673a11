"""Load and round trips of peers: fresh within a second, cheap, and never a new version of anything."""

import msgspec

from nodes.mesh import codec, limits
from nodes.mesh.gossip_effects import MemberView, PublishMembers
from nodes.mesh.gossip_events import DatagramReceived, LinkDown, LinkEnd, LinkId, LoadChanged
from nodes.mesh.messages import Ack, Gossip, Ping
from tests.nodes.mesh.gossip_facts import Bench, datagrams, of
from tests.sim.cluster import Cluster
from tests.sim.identities import node_id_of
from tests.sim.network import Network
from tests.sim.parts import Faults, SimNode


def _bench(peers: int = 3) -> Bench:
    bench = Bench()
    bench.know(f"n{i:04d}" for i in range(1, peers + 1))
    for i in range(1, peers + 1):
        bench.link(f"n{i:04d}", i)
    bench.run(3.0)
    return bench


def _loads(effects: list) -> list[tuple[str, bytes]]:
    return [(p, m.load) for p, m in datagrams(effects) if isinstance(m, Gossip) and m.load]


def _views(effects: list) -> list[MemberView]:
    return [view for told in of(effects, PublishMembers) for view in told.changed]


def _hear(bench: Bench, load: bytes, peer: str = "n0001") -> None:
    bench.give(DatagramReceived(node_id_of(peer), codec.encode(Gossip((), load))))


def test_a_changed_load_is_told_to_every_linked_member_at_once() -> None:
    bench = _bench()
    bench.give(LoadChanged(b"busy"))
    told = _loads(bench.run(0.0))
    assert sorted(told) == sorted((node_id_of(f"n{i:04d}"), b"busy") for i in (1, 2, 3))


def test_a_load_that_stays_the_same_costs_nothing() -> None:
    bench = _bench()
    bench.give(LoadChanged(b"busy"))
    bench.run(5.0)
    for _ in range(20):
        bench.give(LoadChanged(b"busy"))
    later = bench.run(5.0)
    assert _loads(later) == []
    assert all(not m.load for _, m in datagrams(later) if isinstance(m, Ping | Ack | Gossip))


def test_a_load_that_changes_all_the_time_is_told_twice_a_second_and_the_last_one_wins() -> None:
    bench = _bench(1)
    told = []
    for step in range(100):
        bench.give(LoadChanged(b"%d" % step))
        told += _loads(bench.run(0.05))
    told += _loads(bench.run(1.0))
    assert 9 <= len(told) <= 12
    assert told[-1] == (node_id_of("n0001"), b"99")


def test_the_next_probes_repeat_a_load_in_case_its_datagram_was_lost() -> None:
    bench = _bench(1)
    bench.give(LoadChanged(b"busy"))
    effects = bench.run(5.0)
    on_probes = [m for _, m in datagrams(effects) if isinstance(m, Ping) and m.load == b"busy"]
    assert len(_loads(effects)) == 1 and len(on_probes) == 2


def test_a_new_link_is_told_the_present_load_by_its_first_probe() -> None:
    bench = Bench()
    bench.know(["n0001"])
    bench.give(LoadChanged(b"busy"))
    bench.run(1.0)
    bench.link("n0001")
    pings = [m for _, m in datagrams(bench.run(1.0)) if isinstance(m, Ping)]
    assert pings and pings[0].load == b"busy"


def test_loads_of_peers_are_published_together_at_most_every_half_second_without_a_new_version() -> (
    None
):
    bench = _bench()
    before = {v.node_id: (v.incarnation, v.version) for v in bench.node.members()}
    published = []
    for step in range(40):
        for peer in ("n0001", "n0002", "n0003"):
            _hear(bench, b"%d" % step, peer)
        published += of(bench.run(0.05), PublishMembers)
    assert 3 <= len(published) <= 6
    assert len(published[-1].changed) == 3
    for view in _views(bench.run(1.0)) + list(published[-1].changed):
        assert (view.incarnation, view.version) == before[view.node_id]
    assert {v.load for v in bench.node.members()} == {b"39"}


def test_a_link_that_is_gone_leaves_no_load_behind() -> None:
    bench = _bench()
    _hear(bench, b"busy")
    bench.run(1.0)
    effects = bench.give(LinkDown(node_id_of("n0001"), LinkId(1), LinkEnd.CLOSED))
    assert [(v.node_id, v.load) for v in _views(effects)] == [(node_id_of("n0001"), b"")]


def test_load_on_gossip_is_a_trailing_field_that_the_version_before_skips() -> None:
    class OldGossip(msgspec.Struct, array_like=True, tag=6):
        updates: tuple[msgspec.Raw, ...] = ()

    encoded = codec.encode(Gossip((), b"busy"))[1:]
    assert msgspec.msgpack.decode(encoded, type=OldGossip).updates == ()
    old = bytes([codec.WIRE_VERSION]) + msgspec.msgpack.encode(OldGossip())
    message = codec.decode_datagram(old)
    assert isinstance(message, Gossip) and message.load == b""


def test_with_the_largest_load_and_full_of_news_a_datagram_keeps_its_size() -> None:
    cluster = Cluster(12, 3, warm=False)
    for node in cluster.nodes:
        cluster.network.give(node, LoadChanged(b"x" * limits.LOAD_BYTES_MAX))
    cluster.run(5)
    assert cluster.network.largest_datagram <= limits.DATAGRAM_BYTES_MAX


class _Ages:
    """How old the load is that each node shows of each other one: loads are the time of their making."""

    def __init__(self, network: Network) -> None:
        self.worst = 0.0
        self._network = network

    def look(self, nodes: list[SimNode]) -> None:
        for node in nodes:
            for view in node.views.values():
                self.worst = max(self.worst, self._network.now - float(view.load or b"0"))


def test_every_router_sees_loads_about_a_second_old_at_most_with_a_lost_packet_now_and_then() -> (
    None
):
    cluster = Cluster(12, 5, Faults(loss=0.01))
    ages = _Ages(cluster.network)
    for step in range(240):
        if step % 2 == 0:
            for node in cluster.nodes:
                cluster.network.give(node, LoadChanged(f"{cluster.network.now:.3f}".encode()))
        cluster.run(0.125)
        if step > 40:
            ages.look(cluster.nodes)
    # 0.5 s until it is told, 0.5 s until it is shown, and as much again where a datagram was lost.
    assert 0.3 < ages.worst < 1.9


def test_a_round_trip_that_moved_is_published_and_one_that_did_not_is_not() -> None:
    cluster = Cluster(3, 7)
    cluster.run(20)
    published: list[MemberView] = []
    cluster.network.observers.append(lambda node, effect: published.extend(_views([effect])))
    cluster.run(20)
    assert published == []
    cluster.network.faults.delay_s = 0.02
    cluster.run(20)
    assert published and all((v.rtt_s or 0) > 0.002 for v in published)
    shown = [view.rtt_s or 0.0 for node in cluster.nodes for view in node.views.values()]
    assert all(0.03 < rtt < 0.06 for rtt in shown)
