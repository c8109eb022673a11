"""Members and clients that break the rules, on real sockets: bounded, counted, and only they suffer."""

import asyncio
import os
from functools import partial
from typing import Any

import pytest

from nodes.runtime import frames
from nodes.runtime.counters import Counted
from nodes.runtime.streams import WINDOW_BYTES, AbortCode, StreamAbortedError
from nodes.runtime.transport_settings import STREAMS_ENDING_MAX, STREAMS_MAX
from tests.nodes.link_lab import LabNode, lab, overrule, until


def all_finished(streams: dict[int, Any]) -> bool:
    return all(stream.is_finished for stream in streams.values())


def raw(one: LabNode, two: LabNode) -> tuple[Any, int]:
    """Return aioquic's connection from one to two, and its next stream id, to misuse."""
    connection = one.connection_to(two)
    return connection, connection._quic.get_next_available_stream_id()


@pytest.mark.parametrize(
    "content",
    [
        os.urandom(64),
        frames.encode(frames.Data(b"no open first")),
        b"\x01\x00\x00\xff",
        frames.encode(frames.Open("hold")) + frames.encode(frames.Credit(999)),
        frames.encode(frames.Open("hold")) * 2,
    ],
    ids=["random", "no-open", "long-kind", "credit-for-nothing", "open-twice"],
)
async def test_broken_frames_end_the_connection_and_are_counted(content: bytes) -> None:
    async with lab() as made:
        one, two = await made.pair()
        three = await made.node()
        await three.transport.dial([two.address], two.id)
        connection, stream_id = raw(one, two)
        if content[:1] not in b"\x01\x02":
            content = b"\x07" + content[1:]
        connection._quic.send_stream_data(stream_id, content)
        connection.transmit()
        await until(lambda: one.seen.downs)
        assert "protocol error" in one.seen.downs[0][3]
        assert two.transport.counters[Counted.PROTOCOL_ERRORS] == 1
        assert three.link_to(two).is_up, "others do not suffer"


async def test_a_sender_that_ignores_credit_is_cut_off_with_little_memory() -> None:
    async with lab() as made:
        one, two = await made.pair()
        connection, stream_id = raw(one, two)
        quic = connection._quic
        quic.send_stream_data(stream_id, frames.encode(frames.Open("hold")))
        chunk = frames.encode(frames.Data(b"x" * frames.MAX_DATA_BYTES))
        for _ in range(64):
            quic.send_stream_data(stream_id, chunk)
        connection.transmit()
        await until(lambda: two.seen.downs)
        assert "more than was granted" in two.seen.downs[0][3]
        kept = sum(map(len, two.seen.held[0]._chunks))
        assert kept <= WINDOW_BYTES


async def test_bytes_far_ahead_do_not_make_the_window_or_the_buffer_grow() -> None:
    async with lab() as made:
        one, two = await made.pair()
        connection, stream_id = raw(one, two)
        quic = connection._quic
        quic.send_stream_data(stream_id, frames.encode(frames.Open("hold")))
        connection.transmit()
        await until(lambda: two.seen.held)
        there = two.connection_to(one)._quic._streams[stream_id]
        before = there.max_stream_data_local
        # Leave a hole, then send the last byte that the window allows, again and again.
        sender = quic._streams[stream_id].sender
        for _ in range(20):
            hole = before - 1 - sender._buffer_stop
            if hole > 0:
                sender._buffer += bytes(hole)
                sender._buffer_stop += hole
            quic.send_stream_data(stream_id, b"\0")
            connection.transmit()
            await asyncio.sleep(0.01)
        assert there.max_stream_data_local == before
        assert len(there.receiver._buffer) <= before
        assert one.link_to(two).is_up or one.seen.downs


async def test_a_stream_ended_by_quic_alone_is_an_abort_at_the_reader() -> None:
    async with lab() as made:
        one, two = await made.pair()
        connection, stream_id = raw(one, two)
        whole = frames.encode(frames.Open("hold")) + frames.encode(frames.Data(b"half"))
        connection._quic.send_stream_data(stream_id, whole, end_stream=True)
        connection.transmit()
        await until(lambda: two.seen.held)
        assert await two.seen.held[0].read() == b"half"
        with pytest.raises(StreamAbortedError) as caught:
            await two.seen.held[0].read()
        assert caught.value.code == AbortCode.TRUNCATED
        await until(lambda: not two.link_to(one).active_streams)


async def test_an_abort_reaches_the_other_side_with_code_and_reason() -> None:
    async with lab() as made:
        one, two = await made.pair()
        stream = await one.link_to(two).open_stream("hold")
        await stream.write(b"some")
        await until(lambda: two.seen.held)
        assert await two.seen.held[0].read() == b"some"
        await asyncio.sleep(0.02)
        stream.abort(AbortCode.INTERNAL, "the engine died")
        with pytest.raises(StreamAbortedError) as caught:
            await two.seen.held[0].read()
        assert caught.value.code == AbortCode.INTERNAL
        assert "engine died" in caught.value.reason or "gave up" in caught.value.reason


async def test_an_abort_overtakes_what_is_still_waiting_to_be_sent() -> None:
    async with lab() as made:
        one, two = await made.pair()
        stream = await one.link_to(two).open_stream("hold")
        await stream.write(b"x" * WINDOW_BYTES)
        stream.abort(AbortCode.CANCELLED)
        await until(lambda: not one.link_to(two).active_streams)
        await until(lambda: two.seen.held or not two.link_to(one).active_streams)
        for connection in (
            one.connection_to(two),
            two.connection_to(one),
        ):
            await until(partial(all_finished, connection._quic._streams))


async def test_a_reader_that_never_reads_holds_back_its_writer_only() -> None:
    async with lab() as made:
        one, two = await made.pair()
        link = one.link_to(two)
        slow = await link.open_stream("hold")
        writing = asyncio.ensure_future(slow.write(b"x" * (4 * WINDOW_BYTES)))
        await until(lambda: two.seen.held and two.seen.held[0].unread_bytes == WINDOW_BYTES)
        quick = await link.open_stream("echo")
        await quick.write(b"quick")
        assert await quick.read(progress_s=2.0) == b"quick"
        assert not writing.done()
        slow.abort(AbortCode.CANCELLED)
        with pytest.raises(StreamAbortedError):
            await writing


async def test_a_peer_may_not_open_more_streams_than_the_limit() -> None:
    async with lab() as made:
        one, two = await made.pair()
        connection, _ = raw(one, two)
        quic = connection._quic
        for _ in range(200):
            stream_id = quic.get_next_available_stream_id()
            quic.send_stream_data(stream_id, frames.encode(frames.Open("hold")))
        connection.transmit()
        limit = STREAMS_MAX + STREAMS_ENDING_MAX
        await until(lambda: len(two.seen.held) == limit)
        await asyncio.sleep(0.05)
        assert len(two.seen.held) == limit
        assert len(two.connection_to(one).streams) == limit


async def test_datagrams_beyond_what_may_wait_are_dropped_and_counted() -> None:
    async with lab() as made:
        one, two = await made.pair()
        sent = [one.link_to(two).send_datagram(bytes(1100)) for _ in range(2000)]
        assert sent.count(False) == one.transport.counters[Counted.DATAGRAMS_DROPPED] > 0
        pending = one.connection_to(two)._quic._datagrams_pending
        assert len(pending) <= 256
        await until(lambda: len(two.seen.datagrams) > 50)


async def test_a_handler_that_fails_aborts_its_stream_and_nothing_else() -> None:
    async with lab() as made:
        one, two = await made.pair()

        async def broken(link: object, stream: object) -> None:
            raise ValueError("a bug")

        overrule(two.seen, "stream", broken)
        stream = await one.link_to(two).open_stream("echo")
        with pytest.raises(StreamAbortedError) as caught:
            await stream.read(progress_s=2.0)
        assert caught.value.code == AbortCode.INTERNAL
        assert one.link_to(two).is_up
