"""Nobody is buried without a real round trip that failed: over the link, and over a new connection."""

import re
from functools import partial

import msgspec
import pytest

from nodes.mesh import codec
from nodes.mesh.gossip_effects import CloseLink, MemberState, PublishMembers, SendRequest
from nodes.mesh.gossip_events import PeerUseFailed, RequestAnswered, RequestFailed
from nodes.mesh.messages import Check, CheckAnswer
from tests.nodes.mesh.gossip_facts import Bench, datagrams, of, record, requests
from tests.sim.cluster import Cluster
from tests.sim.identities import node_id_of
from tests.sim.parts import SimNode

PEER = node_id_of("n0001")


def _used(linked: bool) -> tuple[Bench, list[SendRequest]]:
    """Return a node through whose peer a request has just failed, and the checks that it wants."""
    bench = Bench()
    bench.know(["n0001", "n0002"])
    if linked:
        bench.link("n0001", 1)
    bench.link("n0002", 2)
    bench.run(0.2)
    bench.give(PeerUseFailed(PEER))
    checks = [e for e, m in requests(bench.run(0.0)) if isinstance(m, Check)]
    return bench, checks


def _states(bench: Bench) -> dict[str, MemberState]:
    return {v.node_id: v.state for v in bench.node.members()}


def test_a_silent_link_is_checked_over_itself_and_over_a_new_connection() -> None:
    _, checks = _used(linked=True)
    assert sorted(check.fresh for check in checks) == [False, True]


def test_without_a_link_one_dial_is_the_check() -> None:
    _, checks = _used(linked=False)
    assert [check.fresh for check in checks] == [False]


@pytest.mark.parametrize("fresh_answers", [False, True])
def test_either_answer_ends_the_suspicion(fresh_answers: bool) -> None:
    bench, checks = _used(linked=True)
    answer = codec.encode(CheckAnswer(msgspec.Raw(record("n0001").line)))
    silent, heard = sorted(checks, key=lambda check: check.fresh is fresh_answers)
    bench.give(RequestFailed(silent.request))
    assert _states(bench)[PEER] is MemberState.SUSPECT
    bench.give(RequestAnswered(heard.request, answer))
    assert _states(bench)[PEER] is MemberState.ALIVE


def test_both_silent_is_a_death_that_drops_the_link_is_remembered_and_told_to_all_at_once() -> None:
    bench, checks = _used(linked=True)
    effects = [e for check in checks for e in bench.give(RequestFailed(check.request))]
    assert PEER not in _states(bench) and PEER in bench.node.dead_peers
    told = [view for e in of(effects, PublishMembers) for view in e.changed]
    assert [(v.node_id, v.state) for v in told] == [(PEER, MemberState.DEAD)]
    assert [close.peer for close in of(effects, CloseLink)] == [PEER]
    assert node_id_of("n0002") in [peer for peer, _ in datagrams(effects)]


def test_who_was_met_while_the_question_was_under_way_lives_although_its_answer_was_lost() -> None:
    bench, checks = _used(linked=True)
    bench.run(0.1)
    bench.link("n0001", 7)
    for check in checks:
        bench.give(RequestFailed(check.request))
    assert _states(bench)[PEER] is MemberState.ALIVE
    assert PEER not in bench.node.dead_peers


def test_a_late_answer_after_the_death_brings_nobody_back() -> None:
    bench, checks = _used(linked=True)
    for check in checks:
        bench.give(RequestFailed(check.request))
    answer = codec.encode(CheckAnswer(msgspec.Raw(record("n0001").line)))
    bench.give(RequestAnswered(checks[0].request, answer))
    assert PEER not in _states(bench)


def test_a_refused_dial_is_looked_into_before_the_silent_link_is_given_up() -> None:
    bench, checks = _used(linked=True)
    fresh = next(check for check in checks if check.fresh)
    bench.give(RequestFailed(fresh.request, refused=True))
    bench.run(0.1)
    assert _states(bench)[PEER] is MemberState.SUSPECT, "one refusal is no proof"
    # Without a second refusal nothing follows from the first; the link's own check still runs.
    silent = next(check for check in checks if not check.fresh)
    bench.give(RequestFailed(silent.request))
    assert PEER in bench.node.dead_peers


def _all_know(cluster: Cluster, victim: SimNode) -> bool:
    return cluster.knows_dead(victim.node_id) == len(cluster.nodes)


def _use_fails_everywhere(cluster: Cluster, victim: SimNode) -> None:
    for node in cluster.nodes:
        if node is not victim:
            cluster.network.give(node, PeerUseFailed(victim.node_id))


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_stall_of_two_seconds_kills_nobody_even_when_every_router_reports_it(seed: int) -> None:
    cluster = Cluster(2 + seed, seed)
    for _ in range(10):
        cluster.run(5)
        cluster.network.pause(cluster.nodes[1], 2.0)
        cluster.run(0.1 * seed)
        _use_fails_everywhere(cluster, cluster.nodes[1])
    cluster.run(5)
    assert cluster.checkers.deaths == []


@pytest.mark.parametrize(("silent", "limit_s"), [(True, 3.0), (False, 1.0)])
def test_a_death_that_is_noticed_on_use_is_known_everywhere_in_time(
    silent: bool, limit_s: float
) -> None:
    for seed in range(1, 11):
        cluster = Cluster(5, seed)
        cluster.run(5 + seed * 0.13)
        victim = cluster.nodes[1]
        cluster.network.kill(victim, silent)
        cluster.run(0.05)
        cluster.network.give(cluster.nodes[0], PeerUseFailed(victim.node_id))
        assert cluster.nodes[0].views[victim.node_id].rank_last, "at once"
        took = cluster.network.run_until(partial(_all_know, cluster, victim), 10, 0.01)
        assert took is not None and took <= limit_s


def test_a_silent_death_is_told_from_the_first_missed_probe_to_the_verdict() -> None:
    cluster = Cluster(3, 4)
    cluster.run(5)
    victim, survivor = cluster.nodes[1], cluster.nodes[0]
    before = len(survivor.story)
    cluster.network.kill(victim, silent=True)
    cluster.run(6)
    told = "\n".join(line for line in survivor.story[before:] if victim.name in line)
    assert max(told.index("late"), told.index("suspected")) < told.index("died")
    assert f"{victim.name} missed a probe: ranked last" in told
    verdict = re.search(
        rf"{victim.name} was declared dead: (\d+) missed probes; no answer for (\S+) s; suspected by (.+)",
        told,
    )
    assert verdict is not None, told
    assert int(verdict[1]) >= 3
    assert 2.0 <= float(verdict[2]) <= 6.0
    assert survivor.name in verdict[3]
