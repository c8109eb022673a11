"""How long a silent host is waited for: without end while it lives, shortly when it does not."""

import pytest

from nodes.mesh.routing import ModelState
from nodes.mesh.routing_patience import (
    LAST_RESORT_FIRST_BYTE_S,
    LATE_PATIENCE_MAX_S,
    LATE_PATIENCE_S,
    LINK_HEARD_S,
    LINK_SILENT_S,
    FirstByteWait,
    Verdict,
)
from tests.nodes.mesh.routing_lab import host

WELL, LATE = host(1), host(1, rank_last=True)
TICK_S = 0.1


def given_up_after(wait: FirstByteWait, from_s: float, limit_s: float = 100.0) -> float | None:
    """Return how long a host that is late from `from_s` on is waited for; None: up to the limit."""
    for tick in range(round(limit_s / TICK_S)):
        now = from_s + tick * TICK_S
        if wait.look(LATE, None, now) is Verdict.SILENT:
            return now - from_s
    return None


def test_healthy_host_is_waited_for_however_long_its_prompt_takes() -> None:
    wait = FirstByteWait(last_resort=False, others=True, now=0.0)
    assert all(wait.look(WELL, 0.5, 60.0 * n) is Verdict.WAIT for n in range(60))


@pytest.mark.parametrize("state", [ModelState.LOADING, ModelState.FAILED])
@pytest.mark.parametrize("others", [True, False])
def test_host_without_the_model_is_given_up_at_once(state: ModelState, others: bool) -> None:
    wait = FirstByteWait(last_resort=False, others=others, now=0.0)
    assert wait.look(host(1, state=state), None, 0.1) is Verdict.GONE


def test_dead_host_is_given_up_at_once() -> None:
    assert FirstByteWait(False, True, 0.0).look(None, None, 0.1) is Verdict.GONE


def test_draining_host_finishes_what_it_has() -> None:
    draining = host(1, state=ModelState.DRAINING)
    assert FirstByteWait(False, True, 0.0).look(draining, None, 20.0) is Verdict.WAIT


def test_host_that_turns_late_is_given_up_after_the_patience_when_another_can_answer() -> None:
    wait = FirstByteWait(last_resort=False, others=True, now=0.0)
    wait.look(WELL, None, 1.0)
    assert given_up_after(wait, 2.0) == pytest.approx(LATE_PATIENCE_S, abs=TICK_S)


def test_patience_grows_with_the_time_already_invested_up_to_its_bound() -> None:
    for invested_s, patience_s in ((40.0, 4.4), (600.0, LATE_PATIENCE_MAX_S)):
        wait = FirstByteWait(last_resort=False, others=True, now=0.0)
        wait.look(WELL, None, invested_s)
        assert given_up_after(wait, invested_s) == pytest.approx(patience_s, abs=2 * TICK_S)


def test_short_stall_costs_nothing_and_the_next_one_has_its_own_patience() -> None:
    wait = FirstByteWait(last_resort=False, others=True, now=0.0)
    for start in (1.0, 3.0, 5.0):
        assert wait.look(LATE, None, start) is Verdict.WAIT
        assert wait.look(LATE, None, start + LATE_PATIENCE_S * 0.9) is Verdict.WAIT
        assert wait.look(WELL, None, start + LATE_PATIENCE_S) is Verdict.WAIT


def test_host_that_turns_late_is_waited_for_until_the_verdict_when_nobody_else_is_left() -> None:
    wait = FirstByteWait(last_resort=False, others=False, now=0.0)
    wait.look(WELL, None, 1.0)
    assert given_up_after(wait, 2.0) is None
    assert wait.look(None, None, 103.0) is Verdict.GONE


def test_last_resort_gets_a_short_deadline() -> None:
    wait = FirstByteWait(last_resort=True, others=False, now=0.0)
    assert given_up_after(wait, 0.0) == pytest.approx(LAST_RESORT_FIRST_BYTE_S, abs=TICK_S)


def test_last_resort_that_comes_back_is_waited_for_like_any_other() -> None:
    wait = FirstByteWait(last_resort=True, others=False, now=0.0)
    assert wait.look(LATE, None, 2.0) is Verdict.WAIT
    assert wait.look(WELL, None, 2.5) is Verdict.WAIT
    assert given_up_after(wait, 3.0) is None


@pytest.mark.parametrize("last_resort", [True, False])
def test_link_that_was_just_heard_proves_life_whatever_a_lost_probe_says(last_resort: bool) -> None:
    wait = FirstByteWait(last_resort=last_resort, others=True, now=0.0)
    assert all(wait.look(LATE, LINK_HEARD_S / 2, n) is Verdict.WAIT for n in range(600))


def test_late_host_whose_link_is_quiet_as_well_is_given_up() -> None:
    wait = FirstByteWait(last_resort=False, others=True, now=0.0)
    assert wait.look(LATE, LINK_HEARD_S + 0.1, 10.0) is Verdict.WAIT
    assert wait.look(LATE, LINK_HEARD_S + 2.1, 12.0) is Verdict.SILENT


def test_silent_link_is_no_sign_of_life_even_where_nobody_probes() -> None:
    wait = FirstByteWait(last_resort=False, others=True, now=0.0)
    assert wait.look(WELL, LINK_SILENT_S, 10.0) is Verdict.WAIT
    assert wait.look(WELL, LINK_SILENT_S + 0.1, 11.0) is Verdict.WAIT
    assert wait.look(WELL, LINK_SILENT_S + 1.2, 12.5) is Verdict.SILENT
