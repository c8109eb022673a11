"""A small seeded run of the fuzzer; `make fuzz` runs the large one."""

from tests.fuzz.run import run


async def test_three_thousand_hostile_inputs_let_nobody_in_and_leave_nothing() -> None:
    outcome = await run(3_000, seed=20)
    assert not outcome.accepted, f"replay with seed {outcome.seed}"
    assert outcome.left_over == 0
    assert outcome.half_open_max <= 64
    assert outcome.tried["handshakes"] > 100
    assert outcome.counters["handshakes_started"] > 50
    assert outcome.counters["handshakes_refused"] > 10
    assert outcome.counters["handshakes_completed"] == 0
    assert outcome.tried["gossip"] > 800
    for refused in ("datagrams_refused", "frames_refused", "claims_refused", "notices_refused"):
        assert outcome.counters[refused] > 10
    assert outcome.good
