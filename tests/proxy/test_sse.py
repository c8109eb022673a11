"""`proxy.sse`: events are never split, whatever the chunks and line ends."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy import sse
from proxy.sse import SseScanner

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [
        *(b"", b"", b"data: x", b"data:", b"data", b"datax: no", b": comment", b"event: e"),
        *(b"data: [DONE]", b"data:[DONE]", b'data: {"usage":{"completion_tokens":3}}', b"id: 1"),
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(LINES, LINE_ENDS), max_size=25))
    return b"".join(line + end for line, end in lines)


@st.composite
def chunked(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    data = draw(streams())
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    edges = [0, *cuts, len(data)]
    return data, [data[a:b] for a, b in pairwise(edges)]


def events_of(data: bytes) -> list[list[bytes]]:
    """The standard's own reading: the finished events that have data, as their data lines."""
    lines = re.split(rb"\r\n|\n|\r", data)[:-1]
    events: list[list[bytes]] = []
    current: list[bytes] = []
    for line in lines:
        if line == b"":
            if current:
                events.append(current)
            current = []
        elif line == b"data" or line.startswith(b"data:"):
            current.append(line)
    return events


@given(chunked())
def test_any_chunking_passes_every_byte_on_in_order(case: tuple[bytes, list[bytes]]) -> None:
    data, chunks = case
    scanner = SseScanner()
    out = b"".join(scanner.feed(c) for c in chunks)
    assert out + scanner.rest() == data


@given(chunked())
def test_what_is_passed_on_ends_between_two_events(case: tuple[bytes, list[bytes]]) -> None:
    _, chunks = case
    scanner = SseScanner()
    out = b""
    for chunk in chunks:
        out += scanner.feed(chunk)
        assert out == b"" or out.endswith((b"\n", b"\r"))
        # An event added here is an event of its own: nothing before it is left open.
        assert events_of(out + b"data: next\n\n")[-1] == [b"data: next"]


@given(chunked())
def test_finished_events_are_counted_as_the_standard_reads_them(
    case: tuple[bytes, list[bytes]],
) -> None:
    data, chunks = case
    scanner = SseScanner()
    for chunk in chunks:
        scanner.feed(chunk)
    scanner.feed(b"\n\n")  # settles a CR at the very end; finishes what was open
    events = events_of(data + b"\n\n")
    done = [e for e in events if e[-1].replace(b" ", b"") == b"data:[DONE]"]
    assert scanner.data_events == len(events) - len(done)
    assert scanner.done_seen == bool(done)


@given(chunked())
def test_complete_means_that_nothing_of_an_event_is_open(case: tuple[bytes, list[bytes]]) -> None:
    data, chunks = case
    scanner = SseScanner()
    for chunk in chunks:
        scanner.feed(chunk)
    open_part = re.split(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)", data)[-1]
    if not data.endswith(b"\r"):
        assert scanner.complete == (not open_part.strip(b"\r\n"))


@given(st.binary(max_size=300), st.integers(1, 7))
def test_bytes_that_are_no_events_pass_unchanged(data: bytes, step: int) -> None:
    scanner = SseScanner()
    out = b"".join(scanner.feed(data[i : i + step]) for i in range(0, len(data), step))
    assert out + scanner.rest() == data


def test_half_event_is_held_back() -> None:
    scanner = SseScanner()
    states = []
    for chunk, passed in (
        (b"data: 1\n\ndata: {half", b"data: 1\n\n"),
        (b"}\n\n", b"data: {half}\n\n"),
    ):
        assert scanner.feed(chunk) == passed
        states.append(scanner.complete)
    assert states == [False, True]
    assert scanner.data_events == 2


def test_event_longer_than_the_bound_is_passed_in_pieces_and_noted() -> None:
    scanner = SseScanner()
    long = b"data: " + b"x" * sse.HOLD_MAX_BYTES
    first = scanner.feed(long)
    states = [scanner.split]
    second = scanner.feed(b"y\n\n")
    states.append(scanner.split)
    assert len(first) >= sse.HOLD_MAX_BYTES
    assert first + second == long + b"y\n\n"
    assert states == [True, False]
    assert scanner.complete


def test_done_and_usage_are_noticed() -> None:
    scanner = SseScanner()
    scanner.feed(b'data: {"usage":{"completion_tokens":5}}\n\n')
    scanner.feed(b"data: [DONE]\n\n")
    assert scanner.done_seen
    assert scanner.usage_line == b'{"usage":{"completion_tokens":5}}'


def test_text_about_usage_is_not_usage() -> None:
    scanner = SseScanner()
    scanner.feed(b'data: {"content":"say \\"usage\\": {"}\n\n')
    assert scanner.usage_line is None
