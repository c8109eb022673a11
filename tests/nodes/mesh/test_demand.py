"""A hot model gets one helper at a time, a cold copy goes home, and nothing swings in between."""

import pytest

from nodes.mesh.causes import Cause
from nodes.mesh.demand import BUSY_PERCENT_MAX, HALF_LIFE_S, Meter, MoveKind, demand, next_move
from nodes.mesh.ids import ModelName
from tests.nodes.mesh.offers_lab import offer, snapshot

A = ModelName("A")


def host(busy: int, name: str = "host", **more: object) -> object:
    return offer(name, serves={"A": "ready"}, disk={"A": 8}, busy={"A": busy}, **more)  # type: ignore[arg-type]


def test_hot_model_promotes_one_standby_the_same_for_all() -> None:
    standbys = [offer(f"s{i}", disk={"A": 8}) for i in range(5)]
    moves = {next_move(snapshot(*standbys, host(80), me=f"s{i}")) for i in range(5)}  # type: ignore[arg-type]
    (move,) = moves
    assert move is not None
    assert move.kind is MoveKind.PROMOTE
    assert move.text == "Assigned to serve A (busy: 80 % of its slots, already on disk)"


def test_while_help_is_loading_nobody_else_comes() -> None:
    standby = offer("s", disk={"A": 8})
    helper = offer("h", serves={"A": "loading"}, disk={"A": 8}, cause=Cause.DEMAND)
    assert next_move(snapshot(standby, host(200), helper)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("busy", [0, 31, 60, 69])
def test_between_cold_and_hot_nothing_moves(busy: int) -> None:
    standby = offer("s", disk={"A": 8})
    copy = host(busy, "copy", cause=Cause.DEMAND)
    if busy == 0:
        copy = host(busy, "copy", cause=Cause.NEEDED)
    assert next_move(snapshot(standby, host(busy), copy)) is None  # type: ignore[arg-type]


def test_cold_copies_that_came_for_demand_go_home_one_at_a_time() -> None:
    copies = [host(10, f"c{i}", cause=Cause.DEMAND) for i in range(3)]
    moves = {next_move(snapshot(host(10), *copies, me="host")) for _ in range(3)}  # type: ignore[arg-type]
    (move,) = moves
    assert move is not None
    assert move.kind is MoveKind.GIVE_BACK
    assert move.node_id in {c.node_id for c in copies}  # type: ignore[attr-defined]


def test_last_copy_is_never_given_back() -> None:
    assert next_move(snapshot(host(0, cause=Cause.DEMAND))) is None  # type: ignore[arg-type]


def test_giving_back_never_makes_the_model_hot() -> None:
    for busy in range(0, 101):
        copy = host(busy, "copy", cause=Cause.DEMAND)
        move = next_move(snapshot(host(busy), copy))  # type: ignore[arg-type]
        if move is not None and move.kind is MoveKind.GIVE_BACK:
            rest = demand(snapshot(host(2 * busy)))[A].percent  # type: ignore[arg-type]
            assert rest < 70


def test_dropped_hot_model_and_unfit_or_late_standbys_move_nobody() -> None:
    unfit, late = offer("u", 4, disk={"A": 8}), offer("l", disk={"A": 8}, rank_last=True)
    assert next_move(snapshot(unfit, late, host(90))) is None  # type: ignore[arg-type]
    able = offer("s", disk={"A": 8})
    assert next_move(snapshot(able, host(90), dropped=["A"])) is None  # type: ignore[arg-type]


def test_hotter_model_is_helped_first() -> None:
    hotter = offer("b", serves={"B": "ready"}, disk={"B": 8}, busy={"B": 150})
    standby = offer("s", disk={"A": 8, "B": 8})
    move = next_move(snapshot(standby, host(80), hotter))  # type: ignore[arg-type]
    assert move is not None
    assert move.model == "B"


def test_meter_decays_by_half_in_its_half_life() -> None:
    meter = Meter(0.0)
    meter.sampled(4, 4, 2.0, 0.0)
    assert meter.figures(10 * HALF_LIFE_S) == (120, 100)
    meter.sampled(0, 4, 0.0, 10 * HALF_LIFE_S)
    per_minute, busy = meter.figures(11 * HALF_LIFE_S)
    assert busy == 50
    assert per_minute == 60
    assert meter.figures(30 * HALF_LIFE_S) == (0, 0)


def test_meter_announces_nothing_new_for_trembling_figures() -> None:
    meter = Meter(0.0)
    meter.sampled(2, 4, 1.0, 0.0)
    said = meter.figures(600.0)
    for second in range(601, 700):
        meter.sampled(2, 4, 1.0 + 0.2 * (second % 2), float(second))
        assert meter.figures(float(second)) == said


def test_short_burst_is_not_hot_and_a_queue_is_bounded() -> None:
    meter = Meter(0.0)
    meter.sampled(4, 4, 2.0, 100.0)
    meter.sampled(0, 4, 0.0, 105.0)
    assert meter.figures(106.0)[1] < 30
    meter.sampled(10_000, 1, 0.0, 106.0)
    assert meter.figures(900.0)[1] == BUSY_PERCENT_MAX
