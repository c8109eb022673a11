"""Links between two nodes on real sockets: dial, datagrams, streams, further connections, the end."""

import asyncio
import os
from dataclasses import replace
from functools import partial

import pytest

from nodes.runtime.address import Address
from nodes.runtime.counters import Counted
from nodes.runtime.dial_errors import REFUSED_PORT, TIMED_OUT, DialError
from nodes.runtime.link import Link
from nodes.runtime.streams import AbortCode, StreamAbortedError
from nodes.runtime.transport_events import LinkEnd
from tests.fakes.udp_relay import UdpRelay
from tests.nodes.link_lab import QUICK, lab, until


def under(items: dict[int, object], limit: int) -> bool:
    return len(items) < limit


async def echo(node_link: Link, content: bytes) -> bytes:
    stream = await node_link.open_stream("echo")

    async def send() -> None:
        await stream.write(content)
        stream.end()

    sending = asyncio.ensure_future(send())
    answer = await stream.read_all(len(content) + 1)
    await sending
    return answer


async def test_both_ends_learn_of_the_link_and_of_each_others_id() -> None:
    async with lab() as made:
        one, two = await made.pair()
        assert [up[0] for up in one.seen.ups] == [two.id]
        assert [up[0] for up in two.seen.ups] == [one.id]
        assert one.link_to(two).dialled
        assert not two.link_to(one).dialled
        assert two.link_to(one).listen_address() == one.address


async def test_a_datagram_arrives_unchanged_in_both_directions() -> None:
    async with lab() as made:
        one, two = await made.pair()
        content = os.urandom(1150)
        assert one.link_to(two).send_datagram(content)
        assert two.link_to(one).send_datagram(b"back")
        await until(lambda: two.seen.datagrams and one.seen.datagrams)
        assert two.seen.datagrams == [content]
        assert one.seen.datagrams == [b"back"]


async def test_a_stream_larger_than_its_window_comes_back_whole() -> None:
    async with lab() as made:
        one, two = await made.pair()
        content = os.urandom(1 << 20)
        assert await echo(one.link_to(two), content) == content
        await until(lambda: not one.link_to(two).active_streams)
        await until(lambda: not two.link_to(one).active_streams)


async def test_finished_streams_are_forgotten_by_us_and_by_aioquic() -> None:
    async with lab() as made:
        one, two = await made.pair()
        link = one.link_to(two)
        for _ in range(300):
            assert await echo(link, b"x") == b"x"
        await until(lambda: not link.active_streams)
        for node, other in ((one, two), (two, one)):
            connection = node.connection_to(other)
            quic_streams = connection._quic._streams
            await until(partial(under, quic_streams, 70))
            assert len(connection._closed_ids) <= 128
            assert not connection._stream_readers


async def test_more_streams_than_one_connection_takes_go_over_a_further_one() -> None:
    async with lab() as made:
        one, two = await made.pair()
        link = one.link_to(two)
        streams = [await link.open_stream("hold") for _ in range(100)]
        assert len(link.strands) == 2
        assert all(len(s.connection.streams) <= 64 for s in link.strands)
        assert len(one.seen.ups) == 1
        await until(lambda: len(two.seen.held) == 100)
        await streams[99].write(b"hello")
        assert await two.seen.held[99].read() == b"hello"
        for stream in streams:
            stream.abort(AbortCode.CANCELLED)
        await until(lambda: not two.link_to(one).active_streams)


async def test_too_many_streams_are_refused_with_a_reason() -> None:
    async with lab() as made:
        one, two = await made.pair()
        link = one.link_to(two)
        with pytest.raises(StreamAbortedError, match="too many streams"):
            for _ in range(8 * 64 + 1):
                await link.open_stream("hold")


async def test_a_link_that_is_closed_is_down_at_both_ends() -> None:
    async with lab() as made:
        one, two = await made.pair()
        stream = await one.link_to(two).open_stream("hold")
        await until(lambda: two.seen.held)
        one.transport.close_link(one.link_to(two), "done")
        assert [down[2] for down in one.seen.downs] == [LinkEnd.CLOSED]
        await until(lambda: two.seen.downs)
        assert two.seen.downs[0][2:] == (LinkEnd.CLOSED, "done")
        with pytest.raises(StreamAbortedError):
            await stream.read()
        with pytest.raises(StreamAbortedError):
            await two.seen.held[0].read()
        assert not one.transport.links
        assert not two.transport.links


async def test_a_closed_port_is_told_from_silence() -> None:
    async with lab() as made:
        one, two = await made.pair()
        await two.transport.close()
        gone = await made.node()
        await gone.transport.close()
        await asyncio.sleep(0.05)
        with pytest.raises(DialError) as caught:
            await one.transport.dial([gone.address], gone.id)
        assert caught.value.refused
        assert caught.value.codes == {gone.address: REFUSED_PORT}
        relay = await UdpRelay.start(("127.0.0.1", 9))
        relay.silent = True
        with pytest.raises(DialError) as caught:
            await one.transport.dial([Address("127.0.0.1", relay.port)], gone.id, 0.3)
        assert not caught.value.refused
        assert list(caught.value.codes.values()) == [TIMED_OUT]
        relay.close()


async def test_the_address_that_answers_wins_over_silent_and_refused_ones() -> None:
    async with lab() as made:
        one, two = await made.node(), await made.node()
        relay = await UdpRelay.start(("127.0.0.1", 9))
        relay.silent = True
        gone = await made.node()
        await gone.transport.close()
        silent = Address("127.0.0.1", relay.port)
        link = await one.transport.dial([silent, gone.address, two.address], two.id)
        assert link.peer_id == two.id
        relay.close()


async def test_a_name_that_is_not_known_is_said() -> None:
    async with lab() as made:
        one = await made.node()
        nowhere = Address("no-such-host.invalid", 7)
        with pytest.raises(DialError) as caught:
            await one.transport.dial([nowhere], None, 3.0)
        assert caught.value.codes == {nowhere: "name_not_found"}


async def test_two_dials_to_one_peer_are_one_dial() -> None:
    async with lab() as made:
        one, two = await made.node(), await made.node()
        links = await asyncio.gather(*(one.transport.dial([two.address], two.id) for _ in range(5)))
        assert len({id(link) for link in links}) == 1
        assert one.transport.counters[Counted.DIALS] == 1
        assert len(two.transport.links) == 1


async def test_streams_and_datagrams_survive_loss_and_delay() -> None:
    async with lab() as made:
        one, two = await made.node(), await made.node()
        relay = await UdpRelay.start((two.address.host, two.address.port), seed=7)
        relay.loss, relay.delay_s = 0.05, 0.01
        link = await one.transport.dial([Address("127.0.0.1", relay.port)], two.id)
        content = os.urandom(100_000)
        assert await echo(link, content) == content
        assert relay.dropped
        relay.close()


async def test_silence_ends_a_link_after_the_idle_timeout() -> None:
    settings = replace(QUICK, idle_timeout_s=0.6, keepalive_s=0.15)
    async with lab() as made:
        one, two = await made.node(settings=settings), await made.node(settings=settings)
        relay = await UdpRelay.start((two.address.host, two.address.port))
        await one.transport.dial([Address("127.0.0.1", relay.port)], two.id)
        await asyncio.sleep(0.8)
        assert one.link_to(two).is_up, "the keepalive keeps an idle link"
        relay.silent = True
        await until(lambda: one.seen.downs and two.seen.downs)
        assert one.seen.downs[0][2] is LinkEnd.LOST
        assert two.seen.downs[0][2] is LinkEnd.LOST
        relay.close()
