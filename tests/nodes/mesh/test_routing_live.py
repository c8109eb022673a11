"""How busy and how quick a host is taken to be: its own word, corrected by what was sent to it since."""

import pytest

from nodes.mesh import routing_live
from nodes.mesh.engine_load import FREE_SLOTS_TOLD_MAX, STALE_S
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.routing_breaker import BREAKER_FAILURES, BREAKER_OPEN_S
from nodes.mesh.routing_live import (
    FAILURE_HALF_LIFE_S,
    FAILURES_LOAD_MAX,
    OWN_PEAK_S,
    TTFB_FADE_S,
    TTFB_FADE_TIMES,
    TTFB_KEPT_S,
    HostLive,
    LiveHosts,
)
from tests.nodes.mesh.routing_lab import host, told


def busy(live: HostLive, now: float = 0.0, **changes: object) -> float:
    return live.figures(host(1, **changes), now).busy


def test_own_requests_count_at_once() -> None:
    live = HostLive()
    assert busy(live) == 0
    live.began(0.0)
    live.began(0.0)
    assert busy(live) == 2
    live.ended()
    assert busy(live) == 1


def test_what_the_host_says_counts_the_requests_of_others() -> None:
    assert busy(HostLive(), load=told(1, 3)) == 3


def test_requests_sent_after_the_hosts_word_come_on_top_of_it() -> None:
    live = HostLive()
    live.began(0.0)
    report = told(1, 3)  # one of them is ours
    assert busy(live, load=report) == 3
    live.began(0.1)
    live.began(0.1)
    assert busy(live, load=report) == 5


def test_requests_ended_after_the_hosts_word_are_taken_off() -> None:
    live = HostLive()
    for _ in range(3):
        live.began(0.0)
    report = told(1, 3)
    assert busy(live, load=report) == 3
    for _ in range(3):
        live.ended()
    assert busy(live, load=report) == 0


def test_own_request_that_ended_before_the_hosts_word_came_is_not_taken_for_anothers() -> None:
    live = HostLive()
    for moment in (0.0, 0.1, 0.2):
        live.began(moment)
        live.ended()
    assert busy(live, 0.5, load=told(1, 1)) == 0
    assert busy(live, 0.6, load=told(2, 3)) == 2


def test_own_requests_of_long_ago_explain_no_load_of_now() -> None:
    live = HostLive()
    for _ in range(4):
        live.began(0.0)
    for _ in range(4):
        live.ended()
    assert busy(live, OWN_PEAK_S / 2, load=told(1, 4)) == 0
    assert busy(live, 2 * OWN_PEAK_S, load=told(2, 4)) == 4
    live.began(2 * OWN_PEAK_S)
    assert busy(live, 2 * OWN_PEAK_S, load=told(2, 4)) == 5


def test_host_is_never_taken_to_hold_less_than_what_was_sent_to_it() -> None:
    live = HostLive()
    for _ in range(5):
        live.began(0.0)
    assert busy(live, load=told(1, 0)) == 5


def test_taken_slots_count_where_they_are_more_than_the_requests() -> None:
    assert busy(HostLive(), load=told(1, 1, free_slots=0)) == 4


def test_host_with_more_slots_than_can_be_told_is_not_taken_for_busy() -> None:
    idle = told(1, 0, free_slots=FREE_SLOTS_TOLD_MAX)
    assert busy(HostLive(), load=idle, slots=1_000) == 0


def test_word_of_a_host_counts_no_more_once_it_is_stale() -> None:
    live, report = HostLive(), told(1, 4)
    assert busy(live, 0.0, load=report) == 4
    assert busy(live, STALE_S, load=report) == 4
    assert busy(live, STALE_S + 0.1, load=report) == 0
    assert busy(live, STALE_S + 0.2, load=told(2, 4)) == 4


def test_pressure_counts_the_request_to_be_placed() -> None:
    assert HostLive().figures(host(1, slots=4), 0.0).pressure == 0.25
    assert HostLive().figures(host(1, slots=0), 0.0).pressure == 1.0


def test_failures_weigh_like_load_and_are_forgotten() -> None:
    live = HostLive()
    live.began(0.0)
    live.failed(0.0, trial=False)
    live.ended()
    weights = [live.figures(host(1), n * FAILURE_HALF_LIFE_S).failures for n in range(6)]
    assert weights == [1.0, 0.5, 0.25, 0.0, 0.0, 0.0]


def test_error_answers_weigh_like_load_and_leave_the_breaker_closed() -> None:
    hosts = LiveHosts()
    live = hosts.of(host(1).key)
    for _ in range(100):
        live.erred(0.0)
    assert live.figures(host(1), 0.0).failures == FAILURES_LOAD_MAX
    assert not hosts.broken(0.0)


def test_time_to_first_byte_follows_the_last_answers() -> None:
    live = HostLive()
    for ttfb_ms in [100.0] * 20 + [400.0]:
        live.answered(ttfb_ms, 0.0)
    assert live.figures(host(1), 0.0).ttfb_ms == pytest.approx(160.0)


def test_first_answer_of_a_cold_engine_is_not_taken_for_its_speed() -> None:
    live = HostLive()
    live.answered(2_000.0, 0.0)
    assert live.figures(host(1), 0.0).ttfb_ms == 100.0


def test_one_stall_says_little_and_a_slow_host_is_known_after_a_few_answers() -> None:
    live = HostLive()
    for ttfb_ms in (10.0, 3_000.0):
        live.answered(ttfb_ms, 0.0)
    assert live.figures(host(1), 0.0).ttfb_ms == pytest.approx(28.0)
    for _ in range(12):
        live.answered(3_000.0, 0.0)
    slow_ms = live.figures(host(1), 0.0).ttfb_ms
    assert slow_ms is not None and slow_ms > 1_500.0


def test_hosts_word_of_its_times_counts_only_while_it_answers() -> None:
    idle = told(1, 0, ttfb_p50_ms=900.0)
    assert HostLive().figures(host(1, load=idle), 0.0).ttfb_ms is None
    busy_one = told(1, 0, ttfb_p50_ms=900.0, requests_per_minute=6.0)
    assert HostLive().figures(host(1, load=busy_one), 0.0).ttfb_ms == 900.5


def test_old_time_to_first_byte_gives_way_to_the_hosts_own_and_the_way_to_it() -> None:
    live, later = HostLive(), TTFB_KEPT_S + 1
    live.answered(100.0, 0.0)
    slow = host(1, load=told(1, 0, ttfb_p50_ms=40.0, requests_per_minute=6.0), rtt_ms=30.0)
    assert live.figures(slow, 0.0).ttfb_ms == 100.0
    slow = host(1, load=told(2, 0, ttfb_p50_ms=40.0, requests_per_minute=6.0), rtt_ms=30.0)
    assert live.figures(slow, later).ttfb_ms == 70.0
    assert live.figures(host(1), later).ttfb_ms is None
    live.answered(8.0, later)
    assert live.figures(host(1), later).ttfb_ms == 8.0


def test_slow_answer_of_a_host_that_is_not_asked_any_more_fades() -> None:
    live = HostLive()
    live.answered(80.0, 0.0)
    assert live.figures(host(1), TTFB_FADE_S).ttfb_ms == pytest.approx(40.0)
    assert live.figures(host(1), 3 * TTFB_FADE_S).ttfb_ms == pytest.approx(10.0)


def test_times_of_seconds_fade_as_slowly_as_their_requests_come() -> None:
    live = HostLive()
    for _ in range(80):
        live.answered(2_000.0, 0.0)
    assert live.figures(host(1), TTFB_FADE_TIMES * 2.0).ttfb_ms == pytest.approx(1_000.0, rel=0.01)


def test_what_a_queue_cost_is_not_the_hosts_slowness() -> None:
    live = HostLive()
    for _ in range(7):
        live.began(0.0)
    queue = live.figures(host(1, slots=4), 0.0).queue
    live.answered(160.0, 0.0, queue)
    assert (queue, live.figures(host(1), 0.0).ttfb_ms) == (2.0, 80.0)


def test_host_that_came_back_begins_without_its_past() -> None:
    hosts, key = LiveHosts(), host(1).key
    hosts.of(key).answered(900.0, 0.0)
    for _ in range(BREAKER_FAILURES):
        hosts.failed(key, 0.0, trial=False)
    hosts.came_back(key)
    now = hosts.of(key).figures(host(1), 0.0)
    assert (hosts.broken(0.0), now.failures, now.ttfb_ms) == (frozenset(), 0.0, None)


def test_hosts_with_an_open_breaker_are_named_until_it_closes() -> None:
    hosts, key = LiveHosts(), host(1).key
    for _ in range(BREAKER_FAILURES):
        hosts.failed(key, 0.0, trial=False)
    assert hosts.broken(0.0) == {key}
    assert hosts.broken(BREAKER_OPEN_S) == frozenset()
    assert hosts.of(key).began(BREAKER_OPEN_S)
    assert hosts.broken(BREAKER_OPEN_S) == {key}
    hosts.of(key).answered(1.0, BREAKER_OPEN_S)
    assert hosts.broken(BREAKER_OPEN_S) == frozenset()


def test_hosts_are_bounded_and_those_in_use_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_live, "HOSTS_MAX", 100)
    hosts = LiveHosts()
    used = hosts.of(host(0).key)
    used.began(0.0)
    for number in range(1_000):
        hosts.of((NodeId(str(number)), ModelName("m")))
        assert len(hosts) <= 100
    assert hosts.of(host(0).key) is used
