"""Pieces that come one by one: written and handed on with no task for each, held back all the same."""

import asyncio

import pytest

from nodes.runtime.streams import WINDOW_BYTES, AbortCode, StreamAbortedError
from tests.nodes.test_streams import ends


async def test_pieces_go_at_once_while_there_is_credit() -> None:
    one, two, _, _ = ends()
    assert one.write_now(b"a")
    assert one.write_now(b"b")
    one.end()
    assert await two.read_all(10) == b"ab"


async def test_a_piece_beyond_the_credit_waits_and_the_writer_is_told() -> None:
    one, two, _, _ = ends()
    assert one.write_now(b"x" * (WINDOW_BYTES - 1))
    assert not one.write_now(b"yz" + b"w" * WINDOW_BYTES)
    draining = asyncio.ensure_future(one.drained())
    await asyncio.sleep(0.01)
    assert not draining.done()
    taken = b""
    while len(taken) < 2 * WINDOW_BYTES + 1:
        taken += await two.read()
        assert two.unread_bytes <= WINDOW_BYTES
    await draining
    assert taken == b"x" * (WINDOW_BYTES - 1) + b"yz" + b"w" * WINDOW_BYTES


async def test_a_reader_that_takes_nothing_ends_the_wait_at_its_limit() -> None:
    one, two, _, _ = ends()
    one.write_now(b"x" * (WINDOW_BYTES + 1))
    with pytest.raises(StreamAbortedError) as caught:
        await one.drained(0.05)
    assert caught.value.code == AbortCode.STALLED
    assert two.closed


async def test_a_sink_is_handed_every_piece_and_its_credit_comes_back() -> None:
    one, two, _, back = ends()
    got: list[bytes] = []

    def sink(piece: bytes) -> bool:
        got.append(piece)
        return True

    one.write_now(b"before")
    pumping = asyncio.ensure_future(two.pump(sink))
    await asyncio.sleep(0)
    for _ in range(8):
        one.write_now(b"x" * (WINDOW_BYTES // 4))
        assert not pumping.done()
    assert sum(map(len, got)) == 6 + 2 * WINDOW_BYTES
    assert back.sent, "credit was granted for what the sink took"
    one.end()
    await pumping
    assert await two.read() == b""


async def test_a_sink_that_is_full_gets_no_more_and_reading_goes_on_where_it_stopped() -> None:
    one, two, _, _ = ends()
    got: list[bytes] = []

    def sink(piece: bytes) -> bool:
        got.append(piece)
        return len(got) < 2

    pumping = asyncio.ensure_future(two.pump(sink))
    await asyncio.sleep(0)
    for piece in (b"1", b"2", b"3"):
        one.write_now(piece)
    await pumping
    assert got == [b"1", b"2"]
    assert await two.read() == b"3"
    pumping = asyncio.ensure_future(two.pump(sink))
    await asyncio.sleep(0)
    one.write_now(b"4")
    await pumping
    assert got == [b"1", b"2", b"4"]


async def test_what_came_before_the_pump_is_handed_over_as_one_piece() -> None:
    one, two, _, _ = ends()
    for piece in (b"1", b"2", b"3"):
        one.write_now(piece)
    got: list[bytes] = []

    def sink(piece: bytes) -> bool:
        got.append(piece)
        return False

    await two.pump(sink)
    assert got == [b"123"]


@pytest.mark.parametrize("how", ["abort", "reset", "lost", "cut"])
async def test_an_early_end_stops_the_pump_and_is_told_once(how: str) -> None:
    one, two, _, _ = ends()
    faults: list[StreamAbortedError] = []
    two.on_fault = faults.append
    pumping = asyncio.ensure_future(two.pump(lambda piece: True))
    await asyncio.sleep(0)
    match how:
        case "abort":
            one.abort(AbortCode.INTERNAL, "died")
        case "reset":
            two.was_reset(AbortCode.INTERNAL)
        case "lost":
            two.lost("idle")
        case _:
            two.received(b"", True)
    await pumping
    with pytest.raises(StreamAbortedError):
        await two.read()
    with pytest.raises(StreamAbortedError):
        await two.drained()
    assert not two.write_now(b"late")
    two.lost("again")
    assert len(faults) == 1


async def test_an_abort_of_ones_own_is_not_told_and_wakes_who_waits() -> None:
    one, two, _, _ = ends()
    faults: list[StreamAbortedError] = []
    two.on_fault = faults.append
    pumping = asyncio.ensure_future(two.pump(lambda piece: True))
    two.write_now(b"x" * (WINDOW_BYTES + 1))
    draining = asyncio.ensure_future(two.drained())
    await asyncio.sleep(0)
    two.abort(AbortCode.CANCELLED, "enough")
    await pumping
    with pytest.raises(StreamAbortedError, match="enough"):
        await draining
    assert one.closed
    assert faults == []
