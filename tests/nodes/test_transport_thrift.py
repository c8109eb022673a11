"""What a connection spends: shared packets, no work for streams at rest, and nothing lost by it."""

import asyncio
import os
from functools import partial
from typing import Any

import pytest
import uvloop

from nodes.runtime.address import Address
from nodes.runtime.link import Link
from nodes.runtime.quic_streams import StreamTable
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from tests.fakes.udp_relay import UdpRelay
from tests.nodes.link_lab import Lab, LabNode, Recorder, lab, overrule, until


class Answering(Recorder):
    """Answers each datagram in the turn in which it comes, as gossip does."""

    def datagram(self, link: Link, content: bytes) -> None:
        link.send_datagram(b"pong")


def count_packets(connection: Any) -> list[int]:
    """Return a list that grows by the size of each packet the connection sends."""
    sizes: list[int] = []
    transport = connection._transport

    class Counting:
        def sendto(self, data: bytes, addr: Any) -> None:
            sizes.append(len(data))
            transport.sendto(data, addr)

        def __getattr__(self, name: str) -> Any:
            return getattr(transport, name)

    overrule(connection, "_transport", Counting())
    return sizes


def nearly_forgotten(table: StreamTable) -> bool:
    """Return whether aioquic holds no stream but the latest ones."""
    return len(table) < 4


async def held_streams(one: LabNode, two: LabNode, count: int) -> tuple[list[Stream], list[Stream]]:
    """Return both ends of so many open streams."""
    near = [await one.link_to(two).open_stream("hold") for _ in range(count)]
    await until(lambda: len(two.seen.held) == count)
    far = sorted(two.seen.held, key=lambda stream: stream.stream_id)
    return near, far


async def test_pieces_of_many_streams_that_come_together_share_packets() -> None:
    async with lab() as made:
        one, two = await made.pair()
        near, far = await held_streams(one, two, 20)
        await asyncio.sleep(0.05)
        sizes = count_packets(two.connection_to(one))
        for _ in range(10):
            for stream in far:
                stream.write_now(b"data: token\n\n", lazily=True)
                await asyncio.sleep(0)
        for stream in near:
            got = b""
            while len(got) < 130:
                got += await stream.read(progress_s=1)
            assert got == b"data: token\n\n" * 10
        assert len(sizes) < 60, "200 pieces"


async def test_the_first_piece_after_a_pause_leaves_in_the_same_turn() -> None:
    async with lab() as made:
        one, two = await made.pair()
        _, far = await held_streams(one, two, 1)
        await asyncio.sleep(0.05)
        sizes = count_packets(two.connection_to(one))
        far[0].write_now(b"first", lazily=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(sizes) == 1
        far[0].write_now(b"second", lazily=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(sizes) == 1, "so soon after, it waits for company"
        await until(lambda: len(sizes) == 2, 1)
        far[0].write_now(b"third", lazily=True)
        far[0].write_now(b"now")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(sizes) == 3, "what is urgent takes the waiting along"


async def test_streams_at_rest_are_no_work_for_a_packet() -> None:
    async with lab() as made:
        one, two = await made.pair()
        _, far = await held_streams(one, two, 60)
        await asyncio.sleep(0.1)
        for node, other in ((one, two), (two, one)):
            connection = node.connection_to(other)
            assert len(connection.table) >= 60
            assert not connection.table.has_work
            assert connection._quic._streams_queue == []
            assert connection.table.values() == ()
        far[7].write_now(b"x")
        quic = two.connection_to(one)._quic
        assert [stream.stream_id for stream in quic._streams_queue] == [far[7].stream_id]


async def test_a_quiet_connection_sends_acknowledgements_together() -> None:
    async with lab() as made:
        one, two = await made.pair()
        _, far = await held_streams(one, two, 1)
        await asyncio.sleep(0.05)
        sizes = count_packets(one.connection_to(two))
        for _ in range(6):
            far[0].write_now(b"piece")
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert len(sizes) <= 2
        assert not two.connection_to(one)._quic._loss.spaces[-1].sent_packets


async def test_an_answered_datagram_takes_its_acknowledgement_along() -> None:
    """A probe costs three packets, not four: ping, answer with the ACK, the answer's ACK."""
    async with lab() as made:
        one, two = await made.node(), await made.node(events=Answering())
        await one.transport.dial([two.address], two.id)
        await asyncio.sleep(0.1)
        asks, answers = count_packets(one.connection_to(two)), count_packets(two.connection_to(one))
        one.link_to(two).send_datagram(b"ping")
        await until(lambda: one.seen.datagrams == [b"pong"])
        await asyncio.sleep(0.1)
        assert (len(asks), len(answers)) == (2, 1)
        for near, far in ((one, two), (two, one)):
            sent = near.connection_to(far)._quic._loss.spaces[-1].sent_packets
            assert not any(packet.is_ack_eliciting for packet in sent.values())


def test_pieces_come_through_on_uvloop_as_well() -> None:
    """The node runs on uvloop, whose timers differ from asyncio's."""

    async def talk() -> None:
        async with lab() as made:
            one, two = await made.pair()
            near, far = await held_streams(one, two, 20)
            for n in range(50):
                for stream in far:
                    stream.write_now(b"%02d" % n, lazily=True)
                await asyncio.sleep(0.001)
            for stream in far:
                stream.end()
            for stream in near:
                got = await stream.read_all(1000, 5)
                assert got == b"".join(b"%02d" % n for n in range(50))
                stream.end()
            await until(lambda: not one.link_to(two).active_streams)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(talk())


async def relayed(made: Lab, loss: float) -> tuple[LabNode, LabNode, UdpRelay]:
    two = await made.node()
    relay = await UdpRelay.start((two.address.host, two.address.port))
    one = await made.node()
    await one.transport.dial([Address("127.0.0.1", relay.port)], two.id)
    await until(lambda: one.id in two.transport.links)
    relay.loss = loss
    return one, two, relay


@pytest.mark.parametrize("loss", [0.02, 0.2])
async def test_lost_packets_lose_no_piece_and_no_window(loss: float) -> None:
    async with lab() as made:
        one, two, relay = await relayed(made, loss)
        near, far = await held_streams(one, two, 8)
        large = os.urandom(200_000)

        async def feed(stream: Stream, number: int) -> None:
            if number == 0:
                await stream.write(large)
            for n in range(100):
                if not stream.write_now(b"%04d" % n, lazily=True):
                    await stream.drained()
                await asyncio.sleep(0.002)
            stream.end()

        feeding = [asyncio.create_task(feed(stream, n)) for n, stream in enumerate(far)]
        pieces = b"".join(b"%04d" % n for n in range(100))
        for n, stream in enumerate(near):
            got = await stream.read_all(2 << 20, 20)
            assert got == (large + pieces if n == 0 else pieces)
            stream.end()
        await asyncio.gather(*feeding)
        assert relay.dropped
        relay.loss = 0.0
        for node, other in ((one, two), (two, one)):
            connection = node.connection_to(other)
            await until(partial(nearly_forgotten, connection.table), 10)


async def test_aborts_arrive_and_are_forgotten_though_packets_are_lost() -> None:
    async with lab() as made:
        one, two, relay = await relayed(made, 0.2)
        near, far = await held_streams(one, two, 30)
        for n, stream in enumerate(far):
            if n % 2:
                stream.write_now(b"x" * 200_000)
            stream.abort(AbortCode.INTERNAL, "gave up")
        for stream in near:
            with pytest.raises(StreamAbortedError) as caught:
                while await stream.read(progress_s=20):
                    pass
            assert caught.value.code == AbortCode.INTERNAL
        relay.loss = 0.0
        for node, other in ((one, two), (two, one)):
            connection = node.connection_to(other)
            await until(partial(nearly_forgotten, connection.table), 10)
            assert not connection.streams
