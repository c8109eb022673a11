"""Byte streams over a connection that this test plays: credit, the end, aborts, and broken rules."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.runtime import frames
from nodes.runtime.frames import Abort, Credit, Data, End, Frame, FrameError, FrameReader, Open
from nodes.runtime.streams import WINDOW_BYTES, AbortCode, Stream, StreamAbortedError


class Wire:
    """Plays the connection: carries bytes to the other end, or holds them."""

    def __init__(self) -> None:
        self.far: Stream | None = None
        self.near: Stream | None = None
        self.sent: list[bytes] = []
        self.finished = 0
        self.abandoned: list[tuple[int, bytes]] = []
        self.closed = 0
        self.holding = False

    def send_bytes(
        self, stream_id: int, content: bytes, *, finish: bool, lazily: bool = False
    ) -> None:
        self.sent.append(content)
        self.finished += finish
        if self.far is not None and not self.holding:
            self.far.received(content, finish)

    def abandon(self, stream_id: int, code: int, last_words: bytes) -> None:
        self.abandoned.append((code, last_words))
        if self.far is not None:
            if last_words:
                self.far.received(last_words, True)
            else:
                self.far.was_reset(code)

    def stream_closed(self, stream: Stream) -> None:
        self.closed += 1

    def frames(self) -> list:
        reader = FrameReader(expects_open=False)
        return [frame for content in self.sent for frame in reader.feed(content)]


def ends(write_progress_s: float = 5.0) -> tuple[Stream, Stream, Wire, Wire]:
    """Return two ends of one stream, the first having opened it, and their wires."""
    there, back = Wire(), Wire()
    one = Stream(there, 0, "echo", write_progress_s)
    two = Stream(back, 0, "", write_progress_s)
    there.near, there.far, back.near, back.far = one, two, two, one
    one.open()
    there.sent.clear()
    return one, two, there, back


async def test_the_other_side_learns_what_the_stream_is_for() -> None:
    _, two, _, _ = ends()
    assert two.kind == "echo"


async def test_content_arrives_in_order_and_the_end_is_told_once_it_is_read() -> None:
    one, two, _, _ = ends()
    await one.write(b"hello ")
    await one.write(b"world")
    one.end()
    assert await two.read() == b"hello "
    assert await two.read(3) == b"wor"
    assert await two.read() == b"ld"
    assert await two.read() == b""
    assert await two.read() == b""


async def test_a_writer_waits_while_the_reader_takes_nothing_and_goes_on_when_it_does() -> None:
    one, two, _, _ = ends()
    writing = asyncio.ensure_future(one.write(b"x" * (3 * WINDOW_BYTES)))
    await asyncio.sleep(0.01)
    assert not writing.done()
    assert two.unread_bytes == WINDOW_BYTES
    taken = 0
    while taken < 3 * WINDOW_BYTES:
        taken += len(await two.read())
        assert two.unread_bytes <= WINDOW_BYTES
    await writing
    assert taken == 3 * WINDOW_BYTES


async def test_half_closed_credit_still_flows_to_the_side_that_has_ended() -> None:
    one, two, _, _ = ends()
    one.end()
    writing = asyncio.ensure_future(two.write(b"y" * (4 * WINDOW_BYTES)))
    taken = 0
    while taken < 4 * WINDOW_BYTES:
        taken += len(await one.read(progress_s=1.0))
    await writing
    two.end()
    assert await one.read() == b""


async def test_quic_is_told_of_the_end_only_when_both_sides_have_ended() -> None:
    one, two, there, back = ends()
    one.end()
    assert there.finished == 0
    two.end()
    assert (there.finished, back.finished) == (1, 1)
    assert one.closed
    assert two.closed
    assert (there.closed, back.closed) == (1, 1)


async def test_a_stream_cut_without_end_is_an_abort_after_what_had_come() -> None:
    _, two, _, _ = ends()
    two.received(frames.encode(Data(b"half")), True)
    assert await two.read() == b"half"
    with pytest.raises(StreamAbortedError) as caught:
        await two.read()
    assert caught.value.code == AbortCode.TRUNCATED


async def test_a_cut_in_the_middle_of_a_frame_is_an_abort_too() -> None:
    _, two, _, _ = ends()
    two.received(frames.encode(Data(b"whole frame"))[:8], True)
    assert await two.read() == b"whol"
    with pytest.raises(StreamAbortedError):
        await two.read()


async def test_an_abort_reaches_a_waiting_reader_with_its_reason() -> None:
    one, two, _, _ = ends()
    reading = asyncio.ensure_future(two.read())
    await asyncio.sleep(0)
    one.abort(AbortCode.INTERNAL, "the engine died")
    with pytest.raises(StreamAbortedError, match="the engine died") as caught:
        await reading
    assert caught.value.code == AbortCode.INTERNAL
    with pytest.raises(StreamAbortedError):
        await one.read()


async def test_an_abort_reaches_a_writer_that_waits_for_credit() -> None:
    one, two, _, back = ends()
    writing = asyncio.ensure_future(one.write(b"x" * (2 * WINDOW_BYTES)))
    await asyncio.sleep(0)
    two.abort(AbortCode.CANCELLED, "enough")
    with pytest.raises(StreamAbortedError, match="enough"):
        await writing
    assert back.abandoned


async def test_a_reset_and_a_lost_connection_wake_whoever_waits() -> None:
    ways: tuple[tuple[Callable[[Stream], None], int], ...] = (
        (partial(Stream.was_reset, code=77), 77),
        (partial(Stream.lost, reason="idle"), AbortCode.LINK_LOST),
    )
    for tell, code in ways:
        _, two, _, _ = ends()
        reading = asyncio.ensure_future(two.read())
        await asyncio.sleep(0)
        tell(two)
        with pytest.raises(StreamAbortedError) as caught:
            await reading
        assert caught.value.code == code


async def test_what_came_before_the_end_can_be_read_after_the_connection_is_lost() -> None:
    one, two, _, _ = ends()
    await one.write(b"all of it")
    one.end()
    two.lost("idle")
    assert await two.read() == b"all of it"
    assert await two.read() == b"", "the end had come: nothing is missing"


async def test_a_writer_without_progress_gives_up_at_its_deadline() -> None:
    one, two, _, _ = ends(write_progress_s=0.05)
    with pytest.raises(StreamAbortedError) as caught:
        await one.write(b"x" * (2 * WINDOW_BYTES))
    assert caught.value.code == AbortCode.STALLED
    assert two.closed


async def test_a_reader_without_progress_gives_up_at_its_deadline() -> None:
    one, two, _, _ = ends()
    with pytest.raises(StreamAbortedError) as caught:
        await two.read(progress_s=0.05)
    assert caught.value.code == AbortCode.STALLED
    assert one.closed


async def test_content_longer_than_allowed_is_refused_and_aborted() -> None:
    one, two, _, _ = ends()
    await one.write(b"x" * 2000)
    with pytest.raises(StreamAbortedError) as caught:
        await two.read_all(1999)
    assert caught.value.code == AbortCode.REFUSED
    assert one.closed


async def test_more_than_was_granted_breaks_the_rules() -> None:
    _, two, _, _ = ends()
    chunk = frames.encode(Data(b"x" * frames.MAX_DATA_BYTES))
    with pytest.raises(FrameError, match="more than was granted"):
        for _ in range(WINDOW_BYTES // frames.MAX_DATA_BYTES + 1):
            two.received(chunk, False)
    assert two.unread_bytes <= WINDOW_BYTES + frames.MAX_DATA_BYTES


async def test_credit_for_bytes_never_sent_breaks_the_rules() -> None:
    _, two, _, _ = ends()
    with pytest.raises(FrameError, match="more credit"):
        two.received(frames.encode(Credit(1)), False)


@pytest.mark.parametrize("frame", [Data(b"late"), End()])
async def test_content_after_the_end_breaks_the_rules(frame: Frame) -> None:
    _, two, _, _ = ends()
    two.received(frames.encode(End()), False)
    with pytest.raises(FrameError):
        two.received(frames.encode(frame), False)


async def test_an_abort_after_the_end_gives_up_the_other_direction() -> None:
    one, two, _, _ = ends()
    faults: list[StreamAbortedError] = []
    two.on_fault = faults.append
    await one.write(b"all of it")
    one.end()
    one.abort(AbortCode.CANCELLED, "no answer wanted")
    assert [(fault.code, fault.reason) for fault in faults] == [
        (AbortCode.CANCELLED, "no answer wanted")
    ]
    assert await two.read() == b"all of it"
    assert await two.read() == b""
    with pytest.raises(StreamAbortedError, match="no answer wanted"):
        await two.write(b"answer")


async def test_abort_after_the_end_of_both_does_nothing() -> None:
    one, two, there, _ = ends()
    one.end()
    two.end()
    one.abort(AbortCode.CANCELLED)
    assert not there.abandoned
    assert await two.read() == b""


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x00\x00\x00",
        b"\x09\x00\x00\x00",
        b"\x02\xff\xff\xff",
        b"\x04\x00\x00\x01",
        b"\x03\x00\x00\x04\0\0\0\0",
        b"\x03\x00\x00\x03\0\0\1",
        b"\x05\x00\x00\x01\0",
        b"\x01\x00\x00\x01a",
    ],
)
def test_malformed_frames_are_refused(content: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader(expects_open=False).feed(content)


@pytest.mark.parametrize(
    "content", [b"\x02\0\0\1x", b"\x01\0\0\0", b"\x01\0\0\1\xff", b"\x01\0\0\2a/"]
)
def test_a_stream_opens_with_a_plain_word_first(content: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader(expects_open=True).feed(content)


ANY_FRAME = (
    st.binary(max_size=300).map(Data)
    | st.integers(1, frames.MAX_CREDIT_BYTES).map(Credit)
    | st.just(End())
    | st.builds(Abort, st.integers(0, 65535), st.text("abc é", max_size=20))
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ANY_FRAME, max_size=8), st.data())
def test_frames_come_back_however_the_bytes_are_cut(sent: list[Frame], data: st.DataObject) -> None:
    content = frames.encode(Open("word")) + b"".join(map(frames.encode, sent))
    reader = FrameReader(expects_open=True)
    got = []
    at = 0
    while at < len(content):
        size = data.draw(st.integers(1, len(content) - at))
        got += reader.feed(content[at : at + size])
        at += size
    assert reader.at_boundary
    assert joined(got) == joined([Open("word"), *sent])


def joined(items: list) -> list:
    """Return the frames with neighbouring DATA made one: where they are cut means nothing."""
    result: list = []
    for item in items:
        if isinstance(item, Data) and result and isinstance(result[-1], Data):
            result[-1] = Data(result[-1].content + item.content)
        elif not isinstance(item, Data) or item.content:
            result.append(item)
    return result


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=10))
def test_any_bytes_give_frames_or_a_frame_error_and_hold_little(chunks: list[bytes]) -> None:
    reader = FrameReader(expects_open=True)
    try:
        for chunk in chunks:
            reader.feed(chunk)
            assert len(reader._held) <= frames.HEADER_BYTES + 2 + frames.MAX_REASON_BYTES
    except FrameError:
        pass
