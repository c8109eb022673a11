"""What a tunnel understands of a server's answers: the version, and where a small answer is whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_registry.rpc.protocol import WHOLE_MAX_BYTES, ResponseReader
from tests.models_registry.rpc.wire import answer, hello_answer


def fed(reader: ResponseReader, stream: bytes, sizes: list[int]) -> bytes:
    out, at = b"", 0
    for size in [*sizes, len(stream)]:
        out += reader.feed(stream[at : at + size])
        at += size
    return out


BODIES = st.binary(max_size=200) | st.integers(WHOLE_MAX_BYTES, WHOLE_MAX_BYTES + 9).map(bytes)


@given(st.lists(BODIES, max_size=10), st.lists(st.integers(1, 300), max_size=40))
def test_answers_go_on_byte_for_byte(bodies: list[bytes], sizes: list[int]) -> None:
    stream = hello_answer() + b"".join(map(answer, bodies))
    reader = ResponseReader()
    assert fed(reader, stream, sizes) == stream
    assert reader.version == (8, 0, 0)
    assert reader.is_known
    assert not reader.foreign


def test_a_small_answer_goes_on_when_it_is_whole() -> None:
    reader = ResponseReader()
    reader.feed(hello_answer())
    whole = answer(b"twelve bytes")
    assert reader.feed(whole[:8]) == b""
    assert reader.feed(whole[8:]) == whole


def test_capability_bytes_are_zeroed_in_the_answer_too() -> None:
    assert ResponseReader().feed(hello_answer(8, b"\xff" * 24)) == hello_answer(8, bytes(24))


@pytest.mark.parametrize("major", [0, 3, 7, 9, 255])
def test_another_version_is_told_and_everything_passes(major: int) -> None:
    reader = ResponseReader()
    junk = b"\xff" * 40
    assert fed(reader, hello_answer(major) + junk, [5, 9]) == hello_answer(major) + junk
    assert not reader.is_known
    assert reader.foreign == f"protocol version {major}.0.0"


@pytest.mark.parametrize("stream", [answer(b"abc"), answer(bytes(65)), b"HTTP/1.1 400 Bad Request"])
def test_a_server_that_does_not_greet_passes_untouched(stream: bytes) -> None:
    reader = ResponseReader()
    assert fed(reader, stream, [2, 3]) == stream
    assert reader.foreign
    assert not reader.is_known


@given(st.binary(max_size=2000), st.lists(st.integers(1, 50), max_size=60))
def test_any_bytes_pass(junk: bytes, sizes: list[int]) -> None:
    reader = ResponseReader()
    out = fed(reader, junk, sizes)
    assert len(junk) - len(out) <= WHOLE_MAX_BYTES
