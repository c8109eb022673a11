"""The backstop of scenarios 11 and 13: every 60 s, two strikes, and it never discovers anyone."""

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest

from nodes.mesh import codec
from nodes.mesh.config import lan, wan
from nodes.mesh.gossip_effects import SendRequest
from nodes.mesh.gossip_events import RequestAnswered, RequestFailed
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import Digests, Exchange, InSync, Sync
from tests.nodes.mesh.gossip_facts import Bench, record, requests
from tests.sim.cluster import Cluster
from tests.sim.identities import node_id_of
from tests.sim.parts import Faults

NO_PROBES = replace(lan(), probe_interval_s=1e9, reconnect_interval_s=1e9)
PEER = node_id_of("n0001")


def _beats(bench: Bench, duration_s: float) -> list[tuple[float, str]]:
    """Return when whom the node beat; none of it is answered."""
    found = []
    end = bench.now + duration_s
    while bench.now < end:
        for effect, message in requests(bench.run(0.5)):
            if isinstance(message, Sync):
                found.append((bench.now, str(effect.contact.node_id)))
            bench.give(RequestFailed(effect.request))
    return found


def test_a_member_without_a_link_is_beaten_every_minute_and_dies_of_its_second_strike() -> None:
    bench = Bench(config=NO_PROBES)
    bench.know(["n0001"])
    times = [at for at, who in _beats(bench, 200) if who == PEER]
    assert len(times) == 2
    assert all(59 <= b - a <= 61 for a, b in pairwise(times))
    assert PEER in bench.node.dead_peers


def test_an_answer_wipes_the_first_strike_out() -> None:
    bench = Bench(config=NO_PROBES)
    bench.know(["n0001"])
    answers = [False, True, False, True, False, True]
    for heard in answers:
        effects: list[SendRequest] = []
        while not effects:
            effects = [e for e, m in requests(bench.run(1.0)) if isinstance(m, Sync)]
        if heard:
            digests = codec.encode(Digests(msgspec.Raw(record("n0001").line), b""))
            for effect, _ in requests(bench.give(RequestAnswered(effects[0].request, digests))):
                bench.give(RequestFailed(effect.request))
        else:
            bench.give(RequestFailed(effects[0].request))
    assert PEER not in bench.node.dead_peers


@pytest.mark.parametrize("silent", [False, True])
def test_with_probes_disabled_the_heartbeat_alone_finds_a_death_in_about_two_minutes(
    silent: bool,
) -> None:
    cluster = Cluster(4, 3, config=NO_PROBES)
    cluster.run(30)
    victim = cluster.nodes[1]
    cluster.network.kill(victim, silent)
    took = cluster.network.run_until(lambda: cluster.knows_dead(victim.node_id) == 3, 400, 1.0)
    # 30 s until the transport gives the link up, then the first beat within a minute, then the second.
    assert took is not None and took <= 30 + 2 * 60 + 2 * lan().sync_timeout_s
    assert not silent or took > 60


def test_with_probes_disabled_and_a_fifth_of_all_packets_lost_nobody_dies_of_heartbeats() -> None:
    cluster = Cluster(
        4, 4, Faults(loss=0.2), config=replace(NO_PROBES, full_mesh_peers_max=0, rings=1)
    )
    cluster.run(1_200)
    assert cluster.checkers.deaths == []


@pytest.mark.parametrize("seed", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_beats_that_meet_links_being_closed_as_unused_kill_nobody(seed: int) -> None:
    """A beat opens a link to no neighbour, which is idle a minute later: when the next beat uses it."""
    faults = Faults(loss=0.1, delay_s=0.15, jitter_s=0.1, reordering=0.1)
    cluster = Cluster(20, seed, faults, config=wan())
    cluster.run(600)
    assert cluster.checkers.deaths == []


def test_a_heartbeat_discovers_nobody_for_either_side() -> None:
    bench = Bench(config=NO_PROBES)
    bench.know(["n0001", "n0002"])
    beat = None
    while beat is None:
        found = [e for e, m in requests(bench.run(1.0)) if isinstance(m, Sync)]
        beat = next((e for e in found if e.contact.node_id == PEER), None)
    unknown_here = record("n0007")
    row = (unknown_here.claim.node_id, *unknown_here.order, 0)
    digests = Digests(msgspec.Raw(record("n0001").line), codec.pack_digests([row]))
    effects = bench.give(RequestAnswered(beat.request, codec.encode(digests)))
    for _, message in requests(effects):
        assert isinstance(message, Exchange)
        assert unknown_here.claim.node_id not in message.wants
        assert record("n0002").line not in [bytes(line) for line in message.records]


def test_a_round_beats_a_bounded_number_and_everyone_has_its_turn() -> None:
    names = [f"n{i:04d}" for i in range(1, 101)]
    lines = {node_id_of(name): msgspec.Raw(record(name).line) for name in names}
    bench = Bench(config=NO_PROBES)
    bench.know(names)
    rounds: dict[float, set[NodeId]] = {}
    for _ in range(8 * 120):
        for effect, message in requests(bench.run(0.5)):
            who = effect.contact.node_id
            if isinstance(message, Sync) and who is not None:
                rounds.setdefault(bench.now, set()).add(who)
                bench.give(RequestAnswered(effect.request, codec.encode(InSync(lines[who]))))
    assert {len(beaten) for beaten in rounds.values()} <= set(
        range(1, lan().heartbeat_peers_max + 1)
    )
    assert set().union(*rounds.values()) == set(lines)
    assert len(rounds) in (7, 8, 9)
