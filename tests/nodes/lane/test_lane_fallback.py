"""Where TCP does not get through the lane goes over QUIC, and comes back by itself, in mid-tunnel."""

import asyncio
import os
import random
import socket
import time

import pytest

from nodes.runtime.lane.channel import LostCode, TunnelLostError, Via
from nodes.runtime.lane.endpoints import LaneEndpoint
from nodes.runtime.lane.settings import LaneSettings
from nodes.runtime.lane.tunnel import Message, Tunnel
from tests.nodes.lane.lab import QUICK, lanes, read_content
from tests.nodes.lane.quic_lab import quic_pair
from tests.nodes.link_lab import until


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_without_tcp_a_tunnel_goes_over_quic() -> None:
    async with quic_pair() as pair:
        tunnel = await pair.one.lane.open(pair.two.id, "echo", b"by quic")
        assert tunnel.via is Via.QUIC
        assert pair.two.seen == [(pair.one.id, b"by quic")]
        blob = os.urandom(500_000)
        sending = asyncio.create_task(tunnel.write(blob))
        assert await read_content(tunnel, len(blob)) == blob
        await sending
        tunnel.end()
        assert await tunnel.read() is None
        (status,) = pair.one.lane.status()
        assert status.connections == 1
        # The connection is kept for the next tunnel.
        again = await pair.one.lane.open(pair.two.id, "echo", b"")
        assert again.via is Via.QUIC
        assert len(pair.one.channels) == 1


async def test_a_refused_port_is_not_tried_again_at_once_and_the_reason_is_shown() -> None:
    settings = LaneSettings(retry_first_s=30.0)
    async with quic_pair(settings) as pair:
        pair.one.lane.endpoints.set(pair.two.id, LaneEndpoint("127.0.0.1", closed_port()))
        tunnel = await pair.one.lane.open(pair.two.id, "echo", b"")
        assert tunnel.via is Via.QUIC
        (status,) = pair.one.lane.status()
        assert status.via is Via.QUIC
        assert "refused" in status.tcp_fault.lower() or "111" in status.tcp_fault
        retry_in_s = pair.one.lane.endpoints.retry_in_s(pair.two.id, time.monotonic())
        assert retry_in_s is not None
        assert 25 < retry_in_s <= 30


@pytest.mark.slow
async def test_a_tunnel_over_quic_comes_back_to_tcp_without_a_byte_lost_or_doubled() -> None:
    """Both directions are busy all the while; the numbers that come back are whole and in order."""
    async with quic_pair() as pair:
        tunnel = await pair.one.lane.open(pair.two.id, "echo", b"")
        assert tunnel.via is Via.QUIC
        stop = asyncio.Event()
        rng = random.Random(5)
        sent = 0

        async def write() -> None:
            nonlocal sent
            while not stop.is_set():
                content = b"".join((sent + i).to_bytes(4) for i in range(rng.randrange(1, 3000)))
                await tunnel.write(content)
                sent += len(content) // 4
                await tunnel.tell(sent.to_bytes(4))
            tunnel.end()

        async def check() -> int:
            rest, expected = b"", 0
            while (part := await tunnel.read()) is not None:
                if isinstance(part, Message):
                    assert int.from_bytes(part.body) == expected
                    continue
                rest += part
                whole = len(rest) // 4 * 4
                for at in range(0, whole, 4):
                    assert int.from_bytes(rest[at : at + 4]) == expected
                    expected += 1
                rest = rest[whole:]
            return expected

        writing = asyncio.create_task(write())
        checking = asyncio.create_task(check())
        await asyncio.sleep(0.2)
        pair.one.knows(pair.two)
        await until(lambda: tunnel.via is Via.LANE)
        await asyncio.sleep(0.3)
        stop.set()
        await writing
        assert await checking == sent
        assert tunnel.closed
        await until(lambda: pair.one.lane.status()[0].lane.sent_bytes > 0)
        (status,) = pair.one.lane.status()
        assert status.quic.sent_bytes > 0
        assert pair.two.lane.status()[0].tunnels == 0


async def test_a_tunnel_may_end_while_it_moves() -> None:
    """Ends and moves at all distances from each other: nothing hangs and no content is lost."""
    async with quic_pair() as pair:
        pair.one.lane._returning.add(pair.two.id)  # only this test moves tunnels
        for number in range(30):
            pair.one.lane.endpoints.set(pair.two.id, None)
            for channel in pair.one.channels:
                if channel.via is Via.LANE:
                    channel.close("test")
            tunnel = await pair.one.lane.open(pair.two.id, "echo", b"")
            assert tunnel.via is Via.QUIC
            pair.one.knows(pair.two)
            channel = await pair.one.lane._pool.connect_tcp(pair.two.id)
            await tunnel.write(b"before")
            moving = asyncio.create_task(tunnel.move(channel))
            for _ in range(number):
                await asyncio.sleep(0)
            if number >= 20:
                await asyncio.sleep((number - 20) * 0.001)
            await tunnel.write(b"after")
            tunnel.end()
            assert await asyncio.wait_for(read_content(tunnel, 11), 5) == b"beforeafter"
            assert await asyncio.wait_for(tunnel.read(), 5) is None
            await asyncio.wait_for(moving, 5)
        await until(lambda: not pair.two.lane._tunnels)


async def test_a_move_that_breaks_leaves_the_tunnel_where_it_was() -> None:
    async with quic_pair() as pair:
        pair.one.lane._returning.add(pair.two.id)
        tunnel = await pair.one.lane.open(pair.two.id, "echo", b"")
        pair.one.knows(pair.two)
        channel = await pair.one.lane._pool.connect_tcp(pair.two.id)
        channel.wire._transport.abort()  # type: ignore[union-attr]
        await until(lambda: not channel.is_open)
        assert not await tunnel.move(channel)
        await tunnel.write(b"still on quic")
        assert await tunnel.read() == b"still on quic"
        assert tunnel.can_move


async def test_another_member_cannot_move_a_tunnel_to_itself() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        tunnel = await one.lane.open(two.id, "hold", b"")
        thief = await lab.lane()
        thief.knows(two)
        channel = await thief.lane._pool.connect_tcp(two.id)
        copied = Tunnel(channel, tunnel.tunnel_id, opener=True, on_closed=lambda t: None)
        other = await thief.lane._pool.connect_tcp(two.id)
        assert not await copied.move(other)
        await until(lambda: two.held)
        await tunnel.write(b"x")
        assert await two.held[0].read() == b"x"


async def test_a_lost_quic_link_is_seen_by_both_ends() -> None:
    async with quic_pair() as pair:
        tunnel = await pair.one.lane.open(pair.two.id, "hold", b"")
        await until(lambda: pair.two.held)
        pair.first.transport.close_link(pair.first.link_to(pair.second), "test")
        for end in (tunnel, pair.two.held[0]):
            with pytest.raises(TunnelLostError):
                await asyncio.wait_for(end.read(), 5)


async def test_where_neither_leads_the_error_names_both() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        one.lane.endpoints.set(two.id, LaneEndpoint("127.0.0.1", closed_port()))
        with pytest.raises(TunnelLostError, match=r"TCP to 127.0.0.1.*QUIC: no QUIC") as caught:
            await one.lane.open(two.id, "echo", b"")
        assert caught.value.code == LostCode.UNREACHABLE


async def test_tcp_that_fails_is_retried_with_growing_pauses_and_a_new_place_at_once() -> None:
    async with lanes() as lab:
        one, two = await lab.pair(settings=QUICK)
        endpoints = one.lane.endpoints
        dead = LaneEndpoint("127.0.0.1", closed_port())
        endpoints.set(two.id, dead)
        pauses, now = [], 1000.0
        for _ in range(12):
            endpoints.failed(two.id, dead, "refused", now)
            endpoints.failed(two.id, dead, "refused", now)  # two dials at a time count once
            pause = endpoints.retry_in_s(two.id, now)
            assert pause is not None
            assert endpoints.to_try(two.id, now + pause - 0.001) is None
            assert endpoints.to_try(two.id, now + pause) == dead
            pauses.append(pause)
            now += pause
        assert pauses[:3] == pytest.approx([0.2, 0.4, 0.8])
        assert pauses[-1] == QUICK.retry_longest_s
        endpoints.set(two.id, two.endpoint)
        assert endpoints.to_try(two.id, now) == two.endpoint
        assert endpoints.fault(two.id) == ""
