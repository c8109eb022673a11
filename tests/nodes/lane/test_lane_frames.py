"""The lane's frames: whole or in any pieces the same, and no bytes break the reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.runtime.lane import frames
from nodes.runtime.lane.frames import Frame, FrameKind, LaneFrameError, LaneFrameReader

bodies = {
    FrameKind.READY: st.binary(min_size=1, max_size=1),
    FrameKind.OPEN: st.binary(min_size=16, max_size=100),
    FrameKind.ACCEPT: st.binary(max_size=100),
    FrameKind.REFUSE: st.binary(min_size=2, max_size=200),
    FrameKind.DATA: st.binary(min_size=1, max_size=300),
    FrameKind.MESSAGE: st.binary(max_size=100),
    FrameKind.END: st.just(b""),
    FrameKind.ABORT: st.binary(min_size=2, max_size=200),
    FrameKind.MOVE: st.binary(min_size=16, max_size=16),
    FrameKind.MOVED: st.just(b""),
    FrameKind.SWITCH: st.just(b""),
}
some_frames = st.lists(
    st.sampled_from(FrameKind).flatmap(lambda kind: bodies[kind].map(lambda b: Frame(kind, b))),
    max_size=12,
)


def joined(seen: list[Frame]) -> list[Frame]:
    """Return the frames with neighbouring parts of content put together."""
    whole: list[Frame] = []
    for frame in seen:
        if frame.kind is FrameKind.DATA and whole and whole[-1].kind is FrameKind.DATA:
            whole[-1] = Frame(FrameKind.DATA, whole[-1].body + frame.body)
        else:
            whole.append(frame)
    return whole


@given(some_frames, st.lists(st.integers(1, 60), max_size=60))
def test_frames_come_out_as_they_went_in_whatever_the_pieces(
    sent: list[Frame], sizes: list[int]
) -> None:
    stream = b"".join(frames.encode(frame.kind, frame.body) for frame in sent)
    reader, seen, at = LaneFrameReader(), [], 0
    for size in [*sizes, len(stream) + 1]:
        seen += reader.feed(stream[at : at + size])
        at += size
    assert joined(seen) == joined(sent)
    assert reader.at_boundary


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_any_bytes_give_frames_or_one_known_error(junk: bytes, size: int) -> None:
    reader = LaneFrameReader()
    try:
        for at in range(0, len(junk), size):
            for frame in reader.feed(junk[at : at + size]):
                assert isinstance(frame.kind, FrameKind)
    except LaneFrameError:
        return


@pytest.mark.parametrize(
    ("kind", "length"),
    [(0, 0), (12, 0), (5, (256 << 10) + 1), (6, (4 << 10) + 1), (7, 1), (2, 15), (9, 17)],
)
def test_a_head_outside_its_kinds_lengths_is_refused(kind: int, length: int) -> None:
    with pytest.raises(LaneFrameError):
        LaneFrameReader().feed(bytes([kind]) + length.to_bytes(3) + bytes(8))


def test_a_reason_is_cut_to_its_bound_and_comes_back() -> None:
    (frame,) = LaneFrameReader().feed(frames.refusal(FrameKind.ABORT, 7, "é" * 500))
    code, reason = frames.why(frame.body)
    assert code == 7
    assert reason.startswith("é" * 90)
    assert len(frame.body) <= 202
