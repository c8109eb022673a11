"""The walk over hosts: who is asked next, once each, never two at once, and what a client is told."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from nodes.mesh.routing import RequestNeeds
from nodes.mesh.routing_breaker import BREAKER_FAILURES, BREAKER_OPEN_S
from nodes.mesh.routing_order import HOSTS_TRIED_MAX
from proxy.openai import FaultKind
from proxy.upstream import UpstreamTrouble
from proxy.walk import TOLD_AGAIN_S, Walk
from tests.fakes.peer_hosts import Answers, Deed, Fails, FakeHosts, Hangs
from tests.nodes.mesh.routing_lab import MODEL, host
from tests.proxy.conftest import eventually
from tests.proxy.walk_lab import REQUEST, Lab


def lab(*deeds: Deed | list[Deed], **more: Any) -> Lab:
    """One host a deed (or a script of them), asked in this order: each has fewer slots than the last."""
    fakes = FakeHosts()
    hosts = []
    for number, deed in enumerate(deeds, start=1):
        script = deed if isinstance(deed, list) else [deed]
        hosts.append(fakes.does(host(number, slots=2_048 >> number), *script))
    return Lab(hosts, fakes, **more)


# --- whom to ask ---------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", list(UpstreamTrouble))
async def test_next_host_answers_whatever_befell_the_first(trouble: UpstreamTrouble) -> None:
    here = lab(Fails(trouble), Answers())
    assert await here.ask() == "box-2"
    assert here.fakes.story == ["ask box-1", "ask box-2", "end box-2"]


async def test_each_host_is_asked_once_and_never_two_at_a_time() -> None:
    here = lab(*[Fails()] * 5)
    _, walk = await here.refused()
    assert sorted(here.fakes.story) == [f"ask box-{n}" for n in range(1, 6)]
    assert here.fakes.most_at_once == 1
    assert [f"ask {t.upstream.name}" for t in walk.tries] == here.fakes.story


async def test_number_of_hosts_tried_is_bounded_and_the_client_told_so() -> None:
    here = lab(*[Fails()] * (HOSTS_TRIED_MAX + 2))
    fault, walk = await here.refused()
    assert len(walk.tries) == HOSTS_TRIED_MAX
    assert "2 further hosts were not tried" in fault.message


async def test_host_that_says_it_still_loads_is_passed_over_and_let_go_first() -> None:
    body = b'{"error":{"message":"Loading model","code":503}}'
    here = lab(Answers(503, body), Answers())
    assert await here.ask() == "box-2"
    assert here.fakes.story == ["ask box-1", "end box-1", "ask box-2", "end box-2"]


async def test_other_errors_of_an_engine_are_the_clients_answer() -> None:
    here = lab(Answers(503, b'{"error":"slots are full"}'), Answers())
    assert await here.ask() == "box-1"


async def test_prompt_too_long_for_one_host_goes_to_one_with_more_context() -> None:
    said = Answers(400, b'{"error":{"type":"exceed_context_size_error"}}')
    here = lab(said, Answers())
    here.change(here.hosts[1], context=65_536, slots=1)
    assert await here.ask() == "box-2"
    assert here.failed == []


async def test_prompt_too_long_for_every_host_gets_the_engines_own_answer() -> None:
    said = Answers(400, b'{"error":{"type":"exceed_context_size_error"}}')
    here = lab(said, Answers())
    assert await here.ask() == "box-1"


# --- what the client is told ---------------------------------------------------------------------


async def test_client_is_told_who_was_asked_and_what_each_said() -> None:
    here = lab(Fails(UpstreamTrouble.LINK_LOST), Fails(UpstreamTrouble.BROKEN, "no status line"))
    fault, _ = await here.refused()
    assert fault.kind is FaultKind.UPSTREAM_DIED
    assert fault.message == (
        "No host could answer with 'tiny': box-1 (000000000000) is behind a link that is broken; "
        "box-2 (000000000000) sent something that is not HTTP: no status line. Ask again shortly."
    )


LOADING, BUSY = Fails(UpstreamTrouble.LOADING), Fails(UpstreamTrouble.BUSY)
SLOW, SILENT = Fails(UpstreamTrouble.SLOW), Fails(UpstreamTrouble.SILENT)


@pytest.mark.parametrize(
    ("deeds", "kind"),
    [
        ([LOADING, LOADING], FaultKind.MODEL_LOADING),
        ([BUSY, BUSY], FaultKind.OVERLOADED),
        ([BUSY, LOADING], FaultKind.OVERLOADED),
        ([SLOW, SILENT], FaultKind.UPSTREAM_SLOW),
        ([SLOW, Fails()], FaultKind.UPSTREAM_DIED),
        ([LOADING], FaultKind.MODEL_LOADING),
        ([BUSY], FaultKind.OVERLOADED),
        ([SLOW], FaultKind.UPSTREAM_SLOW),
        ([SILENT], FaultKind.UPSTREAM_SLOW),
        ([Fails()], FaultKind.UPSTREAM_DIED),
        ([Fails(UpstreamTrouble.LINK_LOST)], FaultKind.UPSTREAM_DIED),
        ([Fails(UpstreamTrouble.NOT_SERVED)], FaultKind.NOTHING_SERVED),
        ([Fails(UpstreamTrouble.DRAINING)], FaultKind.NOTHING_SERVED),
        ([Fails(UpstreamTrouble.GONE)], FaultKind.NOTHING_SERVED),
        ([Fails(UpstreamTrouble.TOO_LARGE)], FaultKind.TOO_LARGE),
    ],
)
async def test_fault_is_what_all_hosts_had_in_common(deeds: list[Deed], kind: FaultKind) -> None:
    fault, _ = await lab(*deeds).refused()
    assert fault.kind is kind
    assert all(f"box-{n}" in fault.message for n in range(1, len(deeds) + 1) if deeds != [LOADING])


async def test_loading_tells_of_the_host_that_is_furthest() -> None:
    first = Fails(UpstreamTrouble.LOADING, progress=0.2)
    fault, _ = await lab(first, Fails(UpstreamTrouble.LOADING, progress=0.7)).refused()
    assert fault.progress == 0.7


# --- who is told of a failed host ----------------------------------------------------------------


async def test_failure_of_another_nodes_host_is_told_at_once_and_not_for_each_request() -> None:
    here = lab(Fails(UpstreamTrouble.LINK_LOST), Answers())
    await asyncio.gather(*(here.ask() for _ in range(32)))
    assert here.failed == [("box-1", UpstreamTrouble.LINK_LOST)]


async def test_failure_is_told_again_after_a_while() -> None:
    here = lab(Fails(UpstreamTrouble.LINK_LOST))
    await here.refused()
    await asyncio.sleep(TOLD_AGAIN_S + 0.05)
    await here.refused()
    assert len(here.failed) == 2


async def test_failure_of_this_nodes_own_engine_is_told_to_nobody() -> None:
    here = lab(Fails(), Answers())
    here.change(here.hosts[0], host="127.0.0.1", port=1)
    assert await here.ask() == "box-2"
    assert here.failed == []


async def test_full_host_is_no_failed_host() -> None:
    here = lab(Fails(UpstreamTrouble.BUSY), Answers())
    await here.ask()
    assert here.failed == []


# --- what is counted -----------------------------------------------------------------------------


async def test_request_counts_with_the_host_that_has_it_and_with_no_other() -> None:
    here = lab(Fails(), Hangs())
    task = asyncio.create_task(here.ask())
    await eventually(lambda: here.fakes.asked["box-2"])
    assert here.in_flight() == [0, 1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert here.in_flight() == [0, 0]
    assert here.fakes.story[-1] == "left box-2"


async def test_answered_and_failed_requests_leave_nothing_in_flight() -> None:
    here = lab([Answers(), Fails(), Answers(500)], Answers())
    for _ in range(10):
        await here.ask()
    assert here.in_flight() == [0, 0]


async def test_host_that_fails_fast_does_not_draw_the_traffic() -> None:
    """A thousand requests, 8 at a time; the broken host is always idle, the good ones are busy."""
    fakes = FakeHosts()
    hosts = [fakes.does(host(1), Fails())]
    hosts += [fakes.does(host(n), Answers(after_s=0.002)) for n in (2, 3)]
    here = Lab(hosts, fakes)
    gate = asyncio.Semaphore(8)

    async def one() -> str:
        async with gate:
            return await here.ask()

    answered = Counter(await asyncio.gather(*(one() for _ in range(1_000))))
    assert answered.total() == 1_000
    assert fakes.asked["box-1"] <= 20
    assert max(answered.values()) / min(answered.values()) <= 1.3


async def test_host_that_answers_every_request_with_an_error_is_not_preferred() -> None:
    fakes = FakeHosts()
    hosts = [fakes.does(host(1), Answers(500)), fakes.does(host(2), Answers(after_s=0.001))]
    here = Lab(hosts, fakes)
    for _ in range(200):
        await here.ask()
    assert fakes.asked["box-1"] <= 10


async def test_host_that_refuses_at_once_is_not_taken_for_a_quick_one() -> None:
    """Its engine may be broken in a way that answers 400: idle and instant, yet no better than the other."""
    fakes = FakeHosts()
    refusing = fakes.does(host(1), Answers(400, b'{"error":{}}'))
    here = Lab([refusing, fakes.does(host(2), Answers(after_s=0.1))], fakes)
    for _ in range(60):
        await here.ask()
    assert 15 <= fakes.asked["box-1"] <= 45


async def broken(then: Deed) -> Lab:
    """Two hosts, the first of them with an open breaker as of 100 s; then it does so."""
    fakes, fails = FakeHosts(), [Fails(after_s=0.01)] * BREAKER_FAILURES
    first = fakes.does(host(1, slots=1_024), *fails, then)
    here = Lab([first, host(2)], fakes, clock_s=100.0)
    await asyncio.gather(*(here.ask() for _ in range(BREAKER_FAILURES)))
    assert here.fakes.asked["box-1"] == BREAKER_FAILURES
    return here


async def test_open_breaker_keeps_requests_away_until_one_trial_succeeds() -> None:
    here = await broken(Answers())
    for _ in range(5):
        assert await here.ask() == "box-2"
    assert here.fakes.asked["box-1"] == BREAKER_FAILURES
    here.clock_s = 100.0 + BREAKER_OPEN_S
    busy = here.router.hosts.of(here.hosts[1].key)
    busy.in_flight = 8 * here.hosts[1].slots  # so much that the failures weigh less
    assert await here.ask() == "box-1"
    assert await here.ask() == "box-1"


async def test_only_one_request_is_the_trial_of_a_half_open_breaker() -> None:
    here = await broken(Hangs())
    here.clock_s = 100.0 + BREAKER_OPEN_S
    here.router.hosts.of(here.hosts[1].key).in_flight = 8 * here.hosts[1].slots  # as above
    trial = asyncio.create_task(here.ask())
    await eventually(lambda: here.fakes.asked["box-1"] == BREAKER_FAILURES + 1)
    for _ in range(5):
        assert await here.ask() == "box-2"
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    next_trial = asyncio.create_task(here.ask())
    await eventually(lambda: here.fakes.asked["box-1"] == BREAKER_FAILURES + 2)
    next_trial.cancel()
    await asyncio.gather(next_trial, return_exceptions=True)


async def test_only_host_is_asked_however_often_it_failed() -> None:
    here = lab([*[Fails()] * (BREAKER_FAILURES + 3), Answers()])
    for _ in range(BREAKER_FAILURES + 3):
        await here.refused()
    assert await here.ask() == "box-1"


async def test_two_hosts_share_a_thousand_requests_evenly() -> None:
    fakes = FakeHosts()
    here = Lab([host(1), host(2)], fakes)
    for _ in range(1_000):
        await here.ask()
    assert max(fakes.asked.values()) / min(fakes.asked.values()) <= 1.3


async def test_two_hosts_share_bursts_evenly_though_gossip_says_nothing_meanwhile() -> None:
    fakes = FakeHosts()
    here = Lab([fakes.does(host(n), Answers(after_s=0.01)) for n in (1, 2)], fakes)
    for _ in range(10):
        await asyncio.gather(*(here.ask() for _ in range(100)))
    assert max(fakes.asked.values()) / min(fakes.asked.values()) <= 1.05


async def test_doubtful_context_is_asked_after_one_that_holds_the_prompt() -> None:
    here = lab(Answers(), Answers())
    here.change(here.hosts[1], context=65_536, slots=1)
    assert await here.ask(needs=RequestNeeds(MODEL, context=10_000)) == "box-2"
    assert await here.ask() == "box-1"


async def test_walk_that_never_began_ends_without_a_trace() -> None:
    here = lab(Answers())
    Walk(here.ways, here.choose()).end()
    assert here.in_flight() == [0]
    walk = Walk(here.ways, here.choose())
    answer, _ = await walk.open(REQUEST)
    answer.close()
    walk.end()
    walk.end()
    assert here.in_flight() == [0]
