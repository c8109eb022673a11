"""Tunnels between two members: content, messages, ends, aborts, reuse, and bounds both ways."""

import asyncio
import contextlib
import os

import pytest

from nodes.runtime.lane.channel import LostCode, TunnelLostError, Via
from nodes.runtime.lane.lane import Incoming
from nodes.runtime.lane.settings import UNREAD_HIGH_BYTES, UNSENT_HIGH_BYTES, LaneSettings
from nodes.runtime.lane.tunnel import Message, Tunnel
from tests.nodes.lane.lab import QUICK, lanes, read_content
from tests.nodes.link_lab import until


async def test_content_and_messages_come_in_the_order_in_which_they_were_written() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        tunnel = await one.lane.open(two.id, "echo", b"details")
        assert tunnel.acceptance == b"welcome"
        assert tunnel.via is Via.LANE
        blob = os.urandom(600_000)
        await tunnel.write(blob)
        await tunnel.tell(b"a word")
        await tunnel.write(b"after")
        assert await read_content(tunnel, len(blob)) == blob
        assert await tunnel.read() == Message(b"a word")
        assert await tunnel.read() == b"after"
        assert two.seen == [(one.id, b"details")]


async def test_one_side_may_end_while_the_other_goes_on() -> None:
    answered = asyncio.Event()

    async def answers_after_the_end(incoming: Incoming) -> None:
        tunnel = incoming.accept()
        while await tunnel.read() is not None:
            pass
        await asyncio.sleep(0.05)
        await tunnel.write(b"all of it came")
        tunnel.end()
        answered.set()

    async with lanes() as lab:
        one, two = await lab.pair(handlers={"late": answers_after_the_end})
        tunnel = await one.lane.open(two.id, "late", b"")
        await tunnel.write(b"question")
        tunnel.end()
        assert await tunnel.read() == b"all of it came"
        assert await tunnel.read() is None
        assert tunnel.closed
        await answered.wait()


async def test_tunnels_one_after_another_share_one_connection() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        for number in range(20):
            tunnel = await one.lane.open(two.id, "echo", b"")
            await tunnel.write(b"%d" % number)
            tunnel.end()
            assert await tunnel.read() == b"%d" % number
            assert await tunnel.read() is None
        assert len(one.channels) == len(two.channels) == 1


async def test_tunnels_at_a_time_have_a_connection_each_and_leave_them_for_later_ones() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        many = [await one.lane.open(two.id, "echo", b"") for _ in range(12)]
        blobs = [os.urandom(100_000) for _ in many]

        async def exchange(tunnel: Tunnel, blob: bytes) -> None:
            await tunnel.write(blob)
            tunnel.end()
            assert await read_content(tunnel, len(blob)) == blob
            assert await tunnel.read() is None

        await asyncio.gather(*map(exchange, many, blobs))
        assert len(one.channels) == 12
        again = [await one.lane.open(two.id, "echo", b"") for _ in range(12)]
        assert len(one.channels) == 12
        for tunnel in again:
            tunnel.abort(LostCode.CANCELLED)


async def test_an_abort_is_seen_by_a_waiting_reader_with_its_reason() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        tunnel = await one.lane.open(two.id, "hold", b"")
        await until(lambda: two.held)
        waiting = asyncio.create_task(tunnel.read())
        await asyncio.sleep(0)
        two.held[0].abort(LostCode.INTERNAL, "the reason")
        with pytest.raises(TunnelLostError, match="the reason"):
            await waiting
        with pytest.raises(TunnelLostError):
            await tunnel.write(b"more")


async def test_a_cut_connection_is_no_end_and_what_came_before_is_still_read() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        tunnel = await one.lane.open(two.id, "hold", b"")
        await until(lambda: two.held)
        await two.held[0].write(b"the last words")
        await until(lambda: one.channels[0].unread_bytes)
        two.channels[0].wire._transport.abort()
        await until(lambda: not one.channels)
        assert await tunnel.read() == b"the last words"
        with pytest.raises(TunnelLostError):
            await tunnel.read()


async def test_a_purpose_that_nobody_serves_is_refused_and_the_connection_stays() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        for purpose in ("unheard-of", "refuse"):
            with pytest.raises(TunnelLostError) as caught:
                await one.lane.open(two.id, purpose, b"")
            assert caught.value.code in (LostCode.REFUSED, LostCode.CANCELLED)
        assert len(one.channels) == 1


async def test_a_reader_that_does_not_read_stops_the_writer_within_the_bounds() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        tunnel = await one.lane.open(two.id, "hold", b"")
        await until(lambda: two.held)
        written = 0
        chunk = bytes(256 << 10)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while written < 256 << 20:
                    await tunnel.write(chunk)
                    written += len(chunk)
        system_buffers = 16 << 20
        assert written < UNREAD_HIGH_BYTES + UNSENT_HIGH_BYTES + system_buffers
        assert two.channels[0].unread_bytes < UNREAD_HIGH_BYTES + (512 << 10)
        # And once it reads, everything arrives.
        taken = await read_content(two.held[0], written)
        assert taken == bytes(written)


async def test_a_writer_gives_up_on_a_peer_that_takes_nothing() -> None:
    impatient = LaneSettings(write_progress_s=0.3)
    async with lanes() as lab:
        one, two = await lab.pair(settings=impatient)
        tunnel = await one.lane.open(two.id, "hold", b"")
        with pytest.raises(TunnelLostError) as caught:
            while True:
                await tunnel.write(bytes(256 << 10))
        assert caught.value.code == LostCode.STALLED


async def test_a_connection_that_the_peer_closed_while_idle_is_replaced() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        tunnel = await one.lane.open(two.id, "echo", b"")
        tunnel.end()
        assert await tunnel.read() is None
        two.channels[0].close("gone")
        # At once, before this side has seen it.
        tunnel = await one.lane.open(two.id, "echo", b"")
        await tunnel.write(b"still here")
        assert await tunnel.read() == b"still here"


async def test_idle_connections_are_closed_after_a_while() -> None:
    async with lanes() as lab:
        one, two = await lab.pair(settings=LaneSettings(idle_keep_s=0.2))
        tunnel = await one.lane.open(two.id, "echo", b"")
        tunnel.end()
        assert await tunnel.read() is None
        assert len(one.channels) == 1
        await until(lambda: not one.channels and not two.channels)


async def test_more_connections_to_a_peer_than_the_bound_are_refused_here() -> None:
    async with lanes() as lab:
        one, two = await lab.pair(settings=LaneSettings(dialled_per_peer_max=3))
        for _ in range(3):
            await one.lane.open(two.id, "hold", b"")
        with pytest.raises(TunnelLostError, match="3 connections") as caught:
            await one.lane.open(two.id, "hold", b"")
        assert caught.value.code == LostCode.UNREACHABLE


async def test_more_connections_of_a_peer_than_the_bound_are_refused_there() -> None:
    async with lanes() as lab:
        one = await lab.lane()
        two = await lab.lane(settings=LaneSettings(accepted_per_peer_max=3))
        one.knows(two)
        for _ in range(3):
            await one.lane.open(two.id, "hold", b"")
        with pytest.raises(TunnelLostError):
            await one.lane.open(two.id, "hold", b"")
        assert len(two.channels) == 3


async def test_an_answer_that_does_not_come_frees_the_opener() -> None:
    async def silent(incoming: Incoming) -> None:
        await asyncio.sleep(60)

    async with lanes() as lab:
        one, two = await lab.pair(
            handlers={"silent": silent}, settings=LaneSettings(answer_timeout_s=0.2)
        )
        with pytest.raises(TunnelLostError) as caught:
            await one.lane.open(two.id, "silent", b"")
        assert caught.value.code == LostCode.STALLED
        assert not one.channels


async def test_status_tells_the_lane_the_bytes_and_the_rate() -> None:
    async with lanes() as lab:
        one, two = await lab.pair(settings=QUICK)
        tunnel = await one.lane.open(two.id, "echo", b"")
        await tunnel.write(bytes(2_000_000))
        await read_content(tunnel, 2_000_000)
        await until(lambda: one.lane.status() and one.lane.status()[0].lane.sent_bytes)
        (status,) = one.lane.status()
        assert status.peer == two.id
        assert status.via is Via.LANE
        assert status.tunnels == status.connections == 1
        assert 2_000_000 < status.lane.sent_bytes < 2_010_000
        assert status.lane.received_bytes >= 2_000_000
        assert status.lane.peak_bytes_per_s > 1_000_000
        assert status.quic.sent_bytes == 0
