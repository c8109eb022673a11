"""The few bytes that tell other nodes how busy this one is: round trip, bounds, age, hostile input."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.mesh.engine_load import FIGURES_MAX, REFRESH_S, LoadReport, decode
from nodes.mesh.events import ServerLoadSampled
from nodes.mesh.ids import ModelName
from nodes.mesh.limits import LOAD_BYTES_MAX

NAME = ModelName("Qwen2.5-3B-Instruct-Q4_K_M")


def sample(model: str = NAME, in_flight: int = 3, **more: float | None) -> ServerLoadSampled:
    facts: dict = {"requests_per_s": 0.5, "tokens_per_s": 42.5, "ttfb_p50_ms": 81.6} | more
    return ServerLoadSampled(ModelName(model), in_flight, requests=7, tokens=900, **facts)


def report(*samples: ServerLoadSampled, slots: int = 4) -> bytes:
    made = LoadReport()
    for each in samples:
        made.sampled(each, slots)
    encoded = made.due(0.0)
    assert encoded is not None
    return encoded


def test_figures_arrive_as_they_were_sent() -> None:
    figures = decode(report(sample())).of(NAME)
    assert figures is not None
    assert (figures.in_flight, figures.free_slots, figures.ttfb_p50_ms) == (3, 1, 82)
    assert (figures.tokens_per_s, figures.requests_per_minute) == (42.5, 30)


def test_model_that_was_not_told_of_has_no_figures() -> None:
    load = decode(report(sample()))
    assert load.of(ModelName("another")) is None


def test_time_to_first_byte_that_nobody_has_measured_stays_unknown() -> None:
    figures = decode(report(sample(ttfb_p50_ms=None))).of(NAME)
    assert figures is not None
    assert figures.ttfb_p50_ms is None


def test_more_requests_than_slots_leave_none_free() -> None:
    figures = decode(report(sample(in_flight=9), slots=4)).of(NAME)
    assert figures is not None
    assert (figures.in_flight, figures.free_slots) == (9, 0)


@given(
    st.lists(
        st.tuples(
            st.text(max_size=128),
            st.integers(0, 2**40),
            st.floats(0, 1e12),
            st.floats(0, 1e12),
            st.none() | st.floats(0, 1e12),
            st.integers(0, 10_000),
        ),
        max_size=40,
    )
)
def test_any_load_fits_its_bytes_and_is_understood(models: list[tuple]) -> None:
    made = LoadReport()
    for name, busy, requests, tokens, ttfb, slots in models:
        made.sampled(ServerLoadSampled(name, busy, 0, 0, requests, tokens, ttfb), slots)
    encoded = made.due(0.0)
    if not models:
        assert encoded is None
        return
    assert encoded is not None
    assert len(encoded) <= LOAD_BYTES_MAX
    assert 1 <= len(decode(encoded)) <= FIGURES_MAX


def test_busiest_models_are_told_of_when_not_all_fit() -> None:
    load = decode(report(*(sample(f"m{n}", in_flight=n) for n in range(FIGURES_MAX + 5))))
    told = [n for n in range(FIGURES_MAX + 5) if load.of(ModelName(f"m{n}"))]
    assert told == list(range(5, FIGURES_MAX + 5))


def test_unchanged_figures_are_said_again_only_after_the_refresh_and_under_a_new_number() -> None:
    made = LoadReport()
    made.sampled(sample(), 4)
    first = made.due(100.0)
    made.sampled(sample(), 4)
    assert made.due(100.0 + REFRESH_S - 0.1) is None
    again = made.due(100.0 + REFRESH_S)
    assert first is not None and again is not None
    before, after = decode(first).of(NAME), decode(again).of(NAME)
    assert before is not None and after is not None
    assert before.number != after.number


def test_changed_figures_are_due_at_once() -> None:
    made = LoadReport()
    made.sampled(sample(), 4)
    made.due(0.0)
    made.sampled(sample(in_flight=1), 4)
    assert made.due(0.1) is not None


def test_ended_model_is_told_of_no_more() -> None:
    made = LoadReport()
    made.sampled(sample(), 4)
    made.due(0.0)
    made.ended(NAME)
    gone = made.due(0.1)
    assert gone is not None and len(decode(gone)) == 0
    assert made.due(0.1 + 10 * REFRESH_S) is None


def test_report_of_a_node_without_models_is_never_due() -> None:
    assert LoadReport().due(math.inf) is None


@given(st.binary(max_size=LOAD_BYTES_MAX))
def test_hostile_bytes_are_read_or_tell_nothing(load: bytes) -> None:
    assert len(decode(load)) >= 0


@pytest.mark.parametrize(
    "message", [[1, [[5, -1]]], [1, [[5, 2**16]]], [1, [[-5]]], [2**16, []], [1, [[5, 0.5]]], {}]
)
def test_figures_out_of_range_tell_nothing(message: object) -> None:
    assert len(decode(msgspec.msgpack.encode(message))) == 0


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_default() -> None:
    newer = decode(msgspec.msgpack.encode([1, [[5, 2, 1, 9, 0, 0, "new"]], "new"]))
    older = decode(msgspec.msgpack.encode([1, [[5, 2]]]))
    assert (len(newer), len(older)) == (1, 1)
