"""What a split is made of: shares of the operator, devices of a host, the memory that it takes, its speed."""

from dataclasses import replace

import pytest

from nodes.mesh.announcement import Announcement
from nodes.mesh.directives import GATHER, RETIRE, Left, Spread, contradicts
from nodes.mesh.effects import StartServer
from nodes.mesh.election import elect, next_term
from nodes.mesh.events import EngineFound, ModelWanted, ResourcesSampled, ServerExited, TimePassed
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import ModelName, NodeId, RunId
from nodes.mesh.launching import server_plan
from nodes.mesh.offers import Work
from nodes.mesh.placement import Placed, ServingOptions, Wanted, place_spread
from nodes.mesh.plans import SplitPlan, WorkerSeat
from nodes.mesh.reasons import Reasons
from nodes.mesh.reconcile import Run, Slot
from nodes.mesh.resources import Device
from nodes.mesh.serving import Serving
from nodes.mesh.split_faults import HOLD_OUT_S, UNFIT_S, SplitFaults
from nodes.mesh.split_host import GATHER_S, SLOW_FOR_S, SplitHost
from nodes.mesh.split_seats import Seat
from nodes.mesh.split_view import expected_tokens_per_s
from nodes.mesh.splits import Splits
from tests.nodes.mesh.facts import ENGINE, MACHINE, model
from tests.nodes.mesh.offers_lab import GB, node_id, offer, snapshot, splits, works

BIG = ModelName("big")
A, B, C = node_id("a"), node_id("b"), node_id("c")
SEATS = (Seat(A, 4, 0.67, None), Seat(B, 2, 0.33, 20.0))
PLAN = SplitPlan(7, (WorkerSeat(B, 50052, 2),), (4,))


def hosting(options: ServingOptions | None = None, *, devices: tuple[int, ...] = ()) -> SplitHost:
    """Return node a, which hosts a split of `BIG` with b: 12 and 6 GB for 36 layers."""
    serving = Serving(options or ServingOptions())
    found = tuple(Device(f"GPU{i}", "", size * GB, 0) for i, size in enumerate(devices))
    serving.resources = replace(MACHINE, devices=found)
    host = SplitHost(A, serving)
    seen = snapshot(
        offer("a", 12, serves={BIG: "waiting"}, disk={BIG: 16}, rtts={"b": 1}), offer("b", 6)
    )
    told = list(host.elected(elect(seen, BIG), seen, 0.0, 100))
    assert told[0].kind == "split_planned"  # type: ignore[union-attr]
    return host


def let_b_be_ready(host: SplitHost, port: int = 50052) -> None:
    """Let the worker say that it is ready in the host's term."""
    (line,) = host.lines()
    ready = offer("b", 6, works={BIG: Work(A, line.term, True, port)})
    looked = host.look({B: ready}.get, frozenset({BIG}), {}, 1.0)
    assert looked.ready == [BIG]


def spread_of(host: SplitHost) -> Spread:
    """Return what `serving` is told."""
    directive = host.directive(BIG)
    assert isinstance(directive, Spread)
    return directive


def due_s(part: SplitHost | Serving) -> float | None:
    """Return when a part is to be looked at again."""
    return part.deadline


def test_terms_grow_with_time_so_that_a_restarted_host_outranks_its_earlier_life() -> None:
    assert [line.term for line in hosting().lines()] == [100]


def test_term_that_no_clock_explains_is_not_outdone() -> None:
    # A term above 2**53 cannot be announced: whoever outdid it would say nothing any more.
    able = offer("a", 12, serves={BIG: "waiting"}, disk={BIG: 16}, rtts={"b": 1})
    absurd = offer("c", 1, splits=splits(BIG, 2**53, "gone"), works=works(BIG, "gone", 2**53))
    seen = snapshot(able, offer("b", 6), absurd)
    assert next_term(seen, BIG, 100) == 100
    wrong_clock = offer("c", 1, splits=splits(BIG, 2_000_000_000, "gone"))
    assert next_term(snapshot(able, wrong_clock), BIG, 100) == 2_000_000_001


def test_host_gathers_until_its_worker_is_ready_and_then_spreads_by_memory() -> None:
    host = hosting()
    assert host.directive(BIG) is GATHER
    let_b_be_ready(host)
    spread = spread_of(host)
    assert spread.plan == SplitPlan(100, (WorkerSeat(B, 50052, 12),), (24,))
    assert [seat.share for seat in spread.seats] == [0.67, 0.33]
    assert spread.have_bytes == 18 * GB


def test_ratios_of_the_operator_overrule_memory_where_they_fit_the_number_of_nodes() -> None:
    host = hosting(ServingOptions(tensor_split=(0.25, 0.75)))
    let_b_be_ready(host)
    spread = spread_of(host)
    assert (spread.plan.host_layers, spread.plan.workers[0].layers) == ((9,), 27)
    assert [seat.share for seat in spread.seats] == [0.25, 0.75]
    host = hosting(ServingOptions(tensor_split=(0.2, 0.3, 0.5)))
    let_b_be_ready(host)
    assert spread_of(host).plan.host_layers == (24,)


def test_several_devices_of_a_host_share_its_layers_by_their_memory() -> None:
    host = hosting(devices=(8, 24))
    let_b_be_ready(host)
    assert spread_of(host).plan.host_layers == (6, 18)


def test_worker_that_does_not_get_ready_is_given_up_in_time_and_left_out_for_a_while() -> None:
    host = hosting()
    idle = offer("b", 6)
    looked = host.look({B: idle}.get, frozenset({BIG}), {}, GATHER_S - 1)
    assert not looked.lost
    looked = host.look({B: idle}.get, frozenset({BIG}), {}, GATHER_S)
    assert looked.lost == {BIG: {B: "it was not ready within 45 s"}}
    assert host.lines() == ()
    assert B in host.faults.held_out(GATHER_S + UNFIT_S - 1)
    assert B not in host.faults.held_out(GATHER_S + UNFIT_S)


def test_worker_that_starts_for_ever_is_given_up_in_time_as_well() -> None:
    host = hosting()
    (line,) = host.lines()
    starts = offer("b", 6, works={BIG: Work(A, line.term, False)})
    assert not host.look({B: starts}.get, frozenset({BIG}), {}, GATHER_S - 1).lost
    looked = host.look({B: starts}.get, frozenset({BIG}), {}, GATHER_S)
    assert looked.lost == {BIG: {B: "it was not ready within 45 s"}}
    assert host.deadline is None, "else it is looked at again and again, without a pause"


def test_nobody_is_waited_for_while_a_dropped_split_runs_out() -> None:
    host = hosting()
    let_b_be_ready(host)
    placed = Placed(Wanted(model("big"), None), 4096, 1, 1)
    plan = server_plan(RunId(1), placed, ServingOptions(), spread_of(host), False)
    host._serving.slots[BIG] = Slot(Run(plan, 1, 1.0))
    (line,) = host.lines()
    late = offer("b", 6, works={BIG: Work(A, line.term, True, 50052)}, rank_last=True)
    host.look({B: late}.get, frozenset({BIG}), {}, 2.0)
    assert due_s(host) == 2.0 + SLOW_FOR_S
    host.look({B: late}.get, frozenset(), {}, 10.0)
    assert (due_s(host), len(host.lines())) == (None, 1), "its open answers need the worker"
    del host._serving.slots[BIG]
    host.look({B: late}.get, frozenset(), {}, 40.0)
    assert host.lines() == ()


def test_losses_are_forgiven_once_and_then_hold_out_for_longer_and_longer() -> None:
    faults = SplitFaults()
    now, waits = 0.0, []
    for _ in range(6):
        faults.lost(B, now)
        waits.append((faults.next_release_s(now) or now) - now)
        now += waits[-1]
    assert waits == [*HOLD_OUT_S, HOLD_OUT_S[-1]]
    faults.lost(B, now + 601)
    assert faults.next_release_s(now + 601) is None


def test_engine_that_breaks_again_and_again_waits_longer_for_its_next_plan() -> None:
    faults = SplitFaults()
    assert [faults.broke(BIG, 0.0) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    faults.stood(BIG)
    assert faults.broke(BIG, 0.0) == 0


def test_host_of_a_split_plans_with_its_own_part_of_the_memory() -> None:
    facts = model("big", 9 * GB)
    placed = place_spread(Wanted(facts, None), SEATS, 12 * GB, ServingOptions())
    whole = 9 * GB
    assert whole * 4 / 6 < placed.need_bytes < whole * 4 / 6 * 1.2
    assert placed.context >= 4096


def test_split_that_covers_the_least_need_alone_runs_with_the_least() -> None:
    facts = model("big", 9 * GB)
    placed = place_spread(Wanted(facts, None), SEATS, 9 * GB, ServingOptions())
    assert (placed.context, placed.parallel) == (4096, 1)


@pytest.mark.parametrize(("devices", "own"), [(False, True), (True, False)])
def test_host_without_devices_computes_through_its_own_rpc_server(devices: bool, own: bool) -> None:
    placed = Placed(Wanted(model(), None), 4096, 1, 1)
    spread = Spread(PLAN, SEATS, 1)
    options = ServingOptions(tensor_split=(0.5, 0.5))
    plan = server_plan(RunId(1), placed, options, spread, devices)
    assert (plan.rpc_self, plan.split, plan.tensor_split) == (own, PLAN, None)
    alone = server_plan(RunId(1), placed, options, None, devices)
    assert (alone.rpc_self, alone.split, alone.tensor_split) == (False, None, (0.5, 0.5))


def test_retry_of_a_split_whose_workers_gather_is_not_due_again_and_again() -> None:
    serving = Serving(ServingOptions())
    for event in (EngineFound(ENGINE), ResourcesSampled(MACHINE)):
        serving.handle(event, 0.0)
    serving.direct(BIG, Spread(PLAN, SEATS, 20 * GB), 0.0)
    (*_, started) = serving.handle(ModelWanted(model("big", 17 * GB), None), 0.0)
    assert isinstance(started, StartServer)
    serving.handle(ServerExited(started.plan.run_id, 1, "It cannot read it.", False), 1.0)
    assert due_s(serving) == 2.0
    serving.direct(BIG, GATHER, 1.5)
    assert serving.handle(TimePassed(), 2.0) == []
    assert due_s(serving) is None, "else the driver is woken without a pause"
    newer = Spread(replace(PLAN, term=8), SEATS, 20 * GB)
    assert isinstance(serving.direct(BIG, newer, 9.0)[-1], StartServer)


@pytest.mark.parametrize("gone", [MemberState.DEAD, MemberState.LEFT])
def test_round_trips_of_a_node_that_went_are_forgotten_with_it(gone: MemberState) -> None:
    splits = Splits(A, Serving(ServingOptions()), Reasons())
    view = MemberView(B, MemberState.ALIVE, False, 1, 1, Announcement(name="b"), 0.002)
    splits.members_changed([view, replace(view, node_id=C)])
    assert splits.own(offer("a")).rtts_ms == {B: 2.0, C: 2.0}
    splits.members_changed([replace(view, state=gone)])
    assert splits.own(offer("a")).rtts_ms == {C: 2.0}
    elsewhere = replace(view, incarnation=2, rtt_s=0.2, rtt_least_s=0.19)
    splits.members_changed([elsewhere])
    assert splits.own(offer("a")).rtts_ms == {B: 190.0, C: 2.0}


def test_what_ends_a_run_that_is_there() -> None:
    placed = Placed(Wanted(model(), None), 4096, 1, 1)
    alone = server_plan(RunId(1), placed, ServingOptions(), None, False)
    split = server_plan(RunId(1), placed, ServingOptions(), Spread(PLAN, SEATS), False)
    newer = Spread(replace(PLAN, term=8), SEATS)
    assert not contradicts(None, alone)
    assert not contradicts(GATHER, alone)
    assert contradicts(Left("left"), alone)
    assert contradicts(newer, alone)
    assert not contradicts(Spread(PLAN, SEATS), split)
    for directive in (None, GATHER, RETIRE, newer, Left("left")):
        assert contradicts(directive, split)


def test_expected_speed_adds_one_round_trip_for_each_worker_and_token() -> None:
    far = (*SEATS, Seat(NodeId(C), 1, 0.1, 30.0))
    assert expected_tokens_per_s(20.0, far) == 10.0
    assert expected_tokens_per_s(None, far) is None
