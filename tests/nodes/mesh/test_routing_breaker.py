"""The breaker of one host: when it opens, who may try, what closes it."""

import pytest

from nodes.mesh.routing_breaker import (
    BREAKER_FAILURES,
    BREAKER_OPEN_MAX_S,
    BREAKER_OPEN_S,
    BREAKER_TRIAL_S,
    Breaker,
    BreakerState,
)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(BREAKER_FAILURES):
        breaker.failed(now, trial=False)
    return breaker


def test_breaker_stays_closed_below_its_failures() -> None:
    breaker = Breaker()
    for _ in range(BREAKER_FAILURES - 1):
        breaker.failed(0.0, trial=False)
    assert breaker.state(0.0) is BreakerState.CLOSED


def test_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(3 * BREAKER_FAILURES):
        breaker.failed(0.0, trial=False)
        breaker.succeeded()
    assert breaker.state(0.0) is BreakerState.CLOSED


def test_failures_in_a_row_open_it_for_its_time() -> None:
    breaker = opened()
    assert breaker.state(BREAKER_OPEN_S - 0.01) is BreakerState.OPEN
    assert breaker.state(BREAKER_OPEN_S) is BreakerState.HALF_OPEN


def test_one_request_is_the_trial_and_the_others_stay_away() -> None:
    breaker = opened()
    assert breaker.began(BREAKER_OPEN_S)
    assert breaker.state(BREAKER_OPEN_S) is BreakerState.OPEN
    assert not breaker.began(BREAKER_OPEN_S)


def test_trial_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.began(BREAKER_OPEN_S)
    breaker.succeeded()
    assert breaker.state(BREAKER_OPEN_S) is BreakerState.CLOSED


def test_trials_that_fail_double_the_time_up_to_its_bound() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(8):
        start = now
        while breaker.state(now) is BreakerState.OPEN:
            now += 0.5
        waits.append(now - start)
        breaker.began(now)
        breaker.failed(now, trial=True)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    assert waits[-1] == BREAKER_OPEN_MAX_S


def test_requests_under_way_when_it_opened_do_not_open_it_for_longer() -> None:
    breaker = opened()
    for _ in range(32):
        breaker.failed(0.1, trial=False)
    assert breaker.state(BREAKER_OPEN_S) is BreakerState.HALF_OPEN


def test_trial_that_says_nothing_does_not_keep_the_next_one_back_for_ever() -> None:
    breaker = opened()
    breaker.began(BREAKER_OPEN_S)
    assert breaker.state(BREAKER_OPEN_S + BREAKER_TRIAL_S) is BreakerState.HALF_OPEN


def test_trial_whose_client_left_makes_room_for_another_at_once() -> None:
    breaker = opened()
    breaker.began(BREAKER_OPEN_S)
    breaker.abandoned(BREAKER_OPEN_S + 1)
    assert breaker.began(BREAKER_OPEN_S + 1)


def test_request_asked_in_need_that_succeeds_closes_an_open_breaker() -> None:
    breaker = opened()
    assert not breaker.began(0.5)
    breaker.succeeded()
    assert breaker.state(0.5) is BreakerState.CLOSED


@pytest.mark.parametrize("now", [0.0, 1e9])
def test_abandoning_says_nothing_of_a_closed_breaker(now: float) -> None:
    breaker = Breaker()
    breaker.abandoned(now)
    assert breaker.state(now) is BreakerState.CLOSED
