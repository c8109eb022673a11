"""In which order a model's hosts are asked: evenly, by load, conversations kept, the doubtful last."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.mesh.routing import Standing
from nodes.mesh.routing_live import Figures
from nodes.mesh.routing_order import HOSTS_TRIED_MAX, Reason, order
from tests.nodes.mesh.routing_lab import figures, firsts, found, host, ordered

A, B, C = host(1), host(2), host(3)


# --- load ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_two_idle_hosts_share_a_thousand_requests_evenly(seed: int) -> None:
    counts = firsts({A: figures(), B: figures()}, seed, 1_000)
    assert max(counts.values()) / min(counts.values()) <= 1.3


@pytest.mark.parametrize("seed", range(5))
def test_ten_idle_hosts_share_evenly(seed: int) -> None:
    counts = firsts({host(n): figures() for n in range(10)}, seed, 10_000)
    assert max(counts.values()) / min(counts.values()) <= 1.3


@pytest.mark.parametrize("seed", range(5))
def test_requests_under_way_spread_by_what_each_host_already_has(seed: int) -> None:
    """A thousand requests that all stay: each choice counts at once, so two of three hosts never part."""
    dice = random.Random(seed)
    hosts = {host(n): 0 for n in range(4)}
    for _ in range(1_000):
        known = {each: figures(busy) for each, busy in hosts.items()}
        hosts[ordered(known, number=dice.getrandbits(64))[0].upstream] += 1
    assert max(hosts.values()) - min(hosts.values()) <= 4


def test_less_loaded_of_two_is_always_first() -> None:
    assert firsts({A: figures(2), B: figures(1)}, 1, 200) == {"box-2": 200}


def test_load_is_measured_by_slots() -> None:
    big = figures(3, slots=16)
    assert firsts({A: figures(1, slots=2), B: big}, 1, 200) == {"box-2": 200}


def test_most_loaded_of_three_is_never_first() -> None:
    counts = firsts({A: figures(0), B: figures(1), C: figures(2)}, 1, 600)
    assert counts["box-3"] == 0
    assert counts["box-1"] > counts["box-2"] > 0


def test_recent_failures_count_as_load() -> None:
    assert firsts({A: figures(failures=1.0), B: figures(2)}, 1, 200) == {"box-2": 200}


# --- latency -------------------------------------------------------------------------------------


def test_first_bytes_within_twice_of_each_other_do_not_decide() -> None:
    counts = firsts({A: figures(ttfb_ms=100.0), B: figures(ttfb_ms=190.0)}, 3, 1_000)
    assert max(counts.values()) / min(counts.values()) <= 1.3


def test_much_slower_host_is_second_while_loads_are_equal() -> None:
    assert firsts({A: figures(ttfb_ms=1_000.0), B: figures(ttfb_ms=100.0)}, 1, 200) == {
        "box-2": 200
    }


def test_much_slower_host_is_used_once_the_quick_one_is_pressed() -> None:
    slow, quick = figures(ttfb_ms=60_000.0), figures(4, ttfb_ms=100.0)
    assert firsts({A: slow, B: quick}, 1, 200) == {"box-1": 200}


def test_first_bytes_below_the_floor_are_equal() -> None:
    counts = firsts({A: figures(ttfb_ms=1.0), B: figures(ttfb_ms=24.0)}, 3, 1_000)
    assert max(counts.values()) / min(counts.values()) <= 1.3


def test_round_trip_decides_while_no_first_byte_is_known() -> None:
    far = figures(ttfb_ms=10.0, rtt_ms=120.0)
    assert firsts({A: far, B: figures()}, 1, 200) == {"box-2": 200}


# --- conversations -------------------------------------------------------------------------------


def test_conversation_stays_with_its_host_while_a_slot_is_free() -> None:
    known = {A: figures(3), B: figures(0)}
    assert firsts(known, 1, 100, sticky=A) == {"box-1": 100}
    assert ordered(known, sticky=A)[0].reason is Reason.CONVERSATION


def test_conversation_leaves_a_host_where_it_would_queue() -> None:
    assert firsts({A: figures(4), B: figures(0)}, 1, 100, sticky=A) == {"box-2": 100}


def test_conversation_stays_when_the_other_host_is_about_as_full() -> None:
    assert firsts({A: figures(7), B: figures(5)}, 1, 100, sticky=A) == {"box-1": 100}


def test_conversation_leaves_a_suspect_host() -> None:
    suspect = host(1, rank_last=True)
    assert firsts({suspect: figures(), B: figures(3)}, 1, 100, sticky=suspect) == {"box-2": 100}


def test_conversation_leaves_a_host_whose_breaker_is_open() -> None:
    broken = frozenset({A.key})
    assert firsts({A: figures(), B: figures(3)}, 1, 50, sticky=A, broken=broken) == {"box-2": 50}


def test_conversation_of_a_host_that_is_no_candidate_goes_by_load() -> None:
    assert firsts({A: figures(1), B: figures(0)}, 1, 50, sticky=C) == {"box-2": 50}


def test_conversation_grown_beyond_its_hosts_context_moves_to_one_that_holds_it() -> None:
    roomy = host(2, context=32_768)
    known = {A: figures(), roomy: figures(3)}
    assert ordered(known, sticky=A, context=9_000)[0].upstream is roomy


# --- the others, in need -------------------------------------------------------------------------


def test_order_is_able_then_doubtful_then_broken_then_late() -> None:
    short, late, broken = host(2, context=512), host(3, rank_last=True), host(4)
    busy = figures(99)
    known = {late: figures(), broken: figures(), short: figures(), A: busy}
    places = ordered(known, broken=frozenset({broken.key}), context=1_024)
    assert [p.upstream for p in places] == [A, short, broken, late]
    assert [p.reason for p in places] == [
        Reason.LOAD,
        Reason.DOUBTFUL,
        Reason.BREAKER,
        Reason.LATE,
    ]


def test_suspect_host_whose_breaker_is_open_is_last_among_the_late() -> None:
    late = host(1, rank_last=True)
    places = ordered({late: figures(), B: figures()}, broken=frozenset({late.key, B.key}))
    assert [p.reason for p in places] == [Reason.BREAKER, Reason.LATE]


def test_single_suspect_host_is_asked() -> None:
    late = host(1, rank_last=True)
    (place,) = ordered({late: figures()})
    assert place.late


def test_no_more_hosts_are_listed_than_may_be_tried() -> None:
    assert len(ordered({host(n): figures() for n in range(50)})) == HOSTS_TRIED_MAX


def test_few_hosts_of_many_are_looked_at() -> None:
    """A thousand hosts: the order must not cost a thousand looks."""
    looked = []

    def look(upstream: object) -> Figures:
        looked.append(upstream)
        return figures()

    hosts = found(*(host(n) for n in range(1_000)))
    order(hosts, look, frozenset(), None, random.Random(1).getrandbits(64))
    assert len(looked) <= 2 * HOSTS_TRIED_MAX


# --- properties ----------------------------------------------------------------------------------

HOSTS = st.lists(
    st.builds(
        lambda last, context, busy, slots, failures, ttfb: (
            {"rank_last": last, "context": context},
            figures(busy, slots=slots, failures=failures, ttfb_ms=ttfb),
        ),
        st.booleans(),
        st.sampled_from([512, 4_096]),
        st.integers(0, 50),
        st.integers(0, 16),
        st.floats(0, 8),
        st.none() | st.floats(0, 1e6),
    ),
    min_size=1,
    max_size=12,
)


@given(
    HOSTS, st.integers(0, 2**64 - 1), st.none() | st.integers(0, 12), st.sets(st.integers(0, 12))
)
def test_order_holds_each_host_once_by_standing_and_is_a_function_of_its_input(
    hosts: list, number: int, sticky: int | None, broken: set[int]
) -> None:
    known = {host(n, **changes): each for n, (changes, each) in enumerate(hosts)}
    open_ = frozenset(u.key for n, u in enumerate(known) if n in broken)
    kept = host(sticky) if sticky is not None else None
    more: dict = {"broken": open_, "sticky": kept, "number": number, "context": 1_024}
    places = ordered(known, **more)
    assert places == ordered(known, **more)
    asked = [place.upstream for place in places]
    assert len(set(asked)) == len(asked) == min(len(known), HOSTS_TRIED_MAX)
    needs = found(*known, context=1_024)
    of = dict(zip(needs.upstreams, needs.standings, strict=True))
    late = [of[u] is Standing.LAST for u in asked]
    assert late == sorted(late)
    blocked = [u.key in open_ or of[u] is Standing.LAST for u in asked]
    assert blocked == sorted(blocked)


@given(st.lists(st.integers(1, 8), min_size=2, max_size=8), st.integers(0, 2**64 - 1))
def test_used_up_number_still_orders_every_host(loads: list[int], number: int) -> None:
    known = {host(n): figures(busy) for n, busy in enumerate(loads)}
    for each in (0, number % 3, number):
        assert {p.upstream for p in ordered(known, number=each)} == set(known)


def test_standing_of_a_suspect_is_last_whatever_it_can() -> None:
    needs = found(A).standings
    assert needs == (Standing.ABLE,)
    assert found(host(1, rank_last=True)).standings == (Standing.LAST,)
