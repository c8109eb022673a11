"""What a tunnel understands of a client's requests: in any pieces the same, and nothing lost."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_registry.rpc.protocol import (
    HASH_OFFER_BYTES,
    SET_TENSOR_BYTES,
    WHOLE_MAX_BYTES,
    Event,
    Foreign,
    HashOffer,
    Hello,
    Pass,
    RequestReader,
    TensorKey,
    TensorStart,
    set_tensor_head,
    tensor_key,
)
from tests.models_registry.rpc.wire import description, hash_offer, hello, request, set_tensor

WEIGHTS = frozenset({"blk.0.attn_q.weight", "output.weight"})
OTHER = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 15, 16, 17])
NAMES = st.sampled_from(["blk.0.attn_q.weight", "output.weight", "inp_tokens", "leaf_7"])
DATA = st.binary(max_size=300) | st.integers(WHOLE_MAX_BYTES, WHOLE_MAX_BYTES + 99).map(bytes)


def a_set(name: str, data: bytes, offset: int, flag: int) -> bytes:
    return set_tensor(description(name), data, offset=offset, flag=flag)


MESSAGES = st.one_of(
    st.builds(request, OTHER, DATA),
    st.builds(a_set, NAMES, DATA, st.sampled_from([0, 64]), st.integers(0, 1)),
    st.builds(lambda name: hash_offer(description(name)), NAMES),
)


def greeted() -> RequestReader:
    """Return a reader whose server has named a known version."""
    reader = RequestReader(WEIGHTS)
    reader.feed(hello())
    assert reader.next() == Hello(hello())
    reader.recognising = True
    return reader


def events_of(reader: RequestReader, stream: bytes, sizes: list[int]) -> list[Event]:
    events, at = [], 0
    for size in [*sizes, len(stream)]:
        reader.feed(stream[at : at + size])
        at += size
        while (event := reader.next()) is not None:
            events.append(event)
    return events


def passed(events: list[Event]) -> bytes:
    """Return the bytes that go on when no tensor is claimed."""
    return b"".join(e.content for e in events if isinstance(e, Pass | HashOffer | Hello))


@given(st.lists(MESSAGES, max_size=8), st.lists(st.integers(1, 400), max_size=40))
def test_what_nobody_claims_goes_on_byte_for_byte(messages: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(messages)
    events = events_of(greeted(), stream, sizes)
    assert passed(events) == stream
    weights = [m for m in messages if m[0] in (6, 7) and tensor_key(m[9:]).name in WEIGHTS]
    found = [e for e in events if isinstance(e, TensorStart | HashOffer)]
    assert len(found) == len(weights)


@given(st.lists(MESSAGES, max_size=6), st.lists(st.integers(1, 400), max_size=40))
def test_claimed_data_is_left_out_and_all_else_goes_on(
    messages: list[bytes], sizes: list[int]
) -> None:
    reader, stream = greeted(), b"".join(messages)
    out, claimed, missing = b"", b"", 0
    at = 0
    for size in [*sizes, len(stream)]:
        piece = stream[at : at + size]
        at += size
        # The caller receives what is missing of a claimed tensor by itself.
        claimed += piece[:missing]
        piece, missing = piece[missing:], max(0, missing - len(piece))
        reader.feed(piece)
        while (event := reader.next()) is not None:
            if isinstance(event, TensorStart):
                out += event.head
                part = reader.claim()
                claimed += part
                missing = event.data_bytes - len(part)
            elif not isinstance(event, Foreign):
                out += event.content
    weights = [m for m in messages if m[0] == 6 and tensor_key(m[9:]).name in WEIGHTS]
    assert claimed == b"".join(m[9 + SET_TENSOR_BYTES :] for m in weights)
    assert len(out) + len(claimed) == len(stream)


def test_the_facts_of_a_weight_are_read() -> None:
    described = description("output.weight", 8, (64, 32))
    (start,) = events_of(greeted(), set_tensor(described, b"d" * 99, offset=32, flag=1), [])[:1]
    assert isinstance(start, TensorStart)
    assert start.key == TensorKey("output.weight", 8, (64, 32, 1, 1))
    assert (start.offset, start.data_bytes) == (32, 99)
    (offer,) = events_of(greeted(), hash_offer(described, offset=5), [])
    assert isinstance(offer, HashOffer)
    assert (offer.key, offer.offset) == (start.key, 5)


def test_a_partly_matching_tensor_resumes_as_it_is() -> None:
    reader = greeted()
    message = set_tensor(description("output.weight"), bytes(range(100)))
    follows = request(10, b"graph")
    reader.feed(message[:-60])
    start = reader.next()
    assert isinstance(start, TensorStart)
    assert reader.claim() == bytes(range(40))
    # 20 more came to the caller, and did not match: it passes them on itself.
    reader.resume(40)
    reader.feed(message[-40:] + follows)
    assert passed(events_of(reader, b"", [])) == message[-40:] + follows


def test_the_flag_of_a_head_that_is_made_anew_is_cleared() -> None:
    described = description("output.weight", 8, (64,))
    body = described + b"\1" + struct.pack("<Q", 0)
    head = set_tensor_head(body, 500)
    assert head == set_tensor(described, bytes(500))[: 9 + SET_TENSOR_BYTES]


def test_capability_bytes_of_the_greeting_are_zeroed() -> None:
    reader = RequestReader(WEIGHTS)
    reader.feed(hello(b"\xff" * 24)[:20])
    assert reader.next() is None
    reader.feed(hello(b"\xff" * 24)[20:])
    assert reader.next() == Hello(hello(bytes(24)))


def test_before_a_known_version_is_named_nothing_is_recognised() -> None:
    reader = RequestReader(WEIGHTS)
    weight = set_tensor(description("output.weight"), b"data")
    reader.feed(hello() + weight)
    assert events_of(reader, b"", []) == [Hello(hello()), Pass(weight)]


@pytest.mark.parametrize(
    "stream", [request(10, b"no greeting"), request(14, bytes(65)), b"GET / HTTP/1.1\r\n\r\n"]
)
def test_a_client_that_does_not_greet_passes_untouched(stream: bytes) -> None:
    reader = RequestReader(WEIGHTS)
    events = events_of(reader, stream + set_tensor(description("output.weight"), b"x"), [3, 5, 11])
    assert isinstance(events[0], Foreign)
    assert reader.foreign
    assert passed(events) == stream + set_tensor(description("output.weight"), b"x")


def test_an_impossible_size_ends_the_recognising_but_not_the_passing() -> None:
    reader = greeted()
    stream = struct.pack("<BQ", 6, 1 << 60) + b"whatever follows"
    events = events_of(reader, stream, [])
    assert isinstance(events[0], Foreign)
    assert passed(events) == stream


@pytest.mark.parametrize(
    ("command", "size"),
    [(6, 0), (6, 1), (6, SET_TENSOR_BYTES - 1), (7, 0), (7, HASH_OFFER_BYTES - 1), (7, 400)],
)
def test_messages_too_short_or_long_for_their_kind_just_pass(command: int, size: int) -> None:
    stream = request(command, description("output.weight").ljust(400, b"\0")[:size])
    assert events_of(greeted(), stream, []) == [Pass(stream)]


@given(st.binary(max_size=3000), st.lists(st.integers(1, 50), max_size=80), st.booleans())
def test_any_bytes_pass(junk: bytes, sizes: list[int], greets: bool) -> None:
    reader = greeted() if greets else RequestReader(WEIGHTS)
    events = events_of(reader, junk, sizes)
    out = passed(events)
    # What is held back at the end is a message that is not whole, or a greeting.
    assert junk.startswith(out) or reader.foreign == ""
    assert len(junk) - len(out) <= WHOLE_MAX_BYTES


def test_ordinary_messages_that_came_together_go_on_together() -> None:
    stream = b"".join(request(11, bytes([n]) * 40) for n in range(20))
    assert events_of(greeted(), stream, []) == [Pass(stream)]


def test_a_large_message_goes_on_as_it_comes() -> None:
    reader = greeted()
    big = request(10, bytes(1 << 20))
    reader.feed(big[:1000])
    assert reader.next() == Pass(big[:1000])
    reader.feed(big[1000:])
    assert passed(events_of(reader, b"", [])) == big[1000:]
