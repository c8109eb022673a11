"""A peer that vanishes under an open stream is noticed well within a second; one that only waits is not."""

import asyncio
import time

import pytest

from nodes.runtime import link_watch
from nodes.runtime.address import Address
from nodes.runtime.dial_errors import DialError
from nodes.runtime.link_watch import LinkWatch
from nodes.runtime.peer_streams import DialledStreams
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from tests.fakes.udp_relay import UdpRelay
from tests.nodes.link_lab import Lab, LabNode, lab, until


def vanish(node: LabNode) -> None:
    """Close a node's sockets without a word, as the kernel does for a killed process."""
    node.listener._transport.close()
    for link in node.transport.links.values():
        for strand in link.strands:
            if strand.connection.dialled:
                strand.connection._transport.close()  # type: ignore[union-attr]


async def held(opener: LabNode, other: LabNode, watch: LinkWatch) -> Stream:
    link = opener.link_to(other)
    stream = await link.open_stream("hold")
    watch.add(link, stream)
    return stream


@pytest.mark.parametrize("dialler", [True, False])
async def test_a_killed_peer_is_noticed_within_a_second_whoever_dialled(dialler: bool) -> None:
    async with lab() as made:
        one, two = await made.pair()
        near, far = (one, two) if dialler else (two, one)
        watch = LinkWatch()
        streams = [await held(near, far, watch) for _ in range(5)]
        await until(lambda: len(far.seen.held) == 5)
        vanish(far)
        began = time.monotonic()
        for stream in streams:
            with pytest.raises(StreamAbortedError, match="port is closed") as caught:
                await stream.read(progress_s=3)
            assert caught.value.code == AbortCode.LINK_LOST
        assert time.monotonic() - began < 1.0
        assert not watch._watched
        watch.close()


async def test_a_peer_that_was_dead_before_the_stream_is_noticed_at_once() -> None:
    async with lab() as made:
        one, two = await made.pair()
        vanish(two)
        watch = LinkWatch()
        began = time.monotonic()
        stream = await held(one, two, watch)
        with pytest.raises(StreamAbortedError):
            await stream.read(progress_s=3)
        assert time.monotonic() - began < 0.5
        watch.close()


async def test_a_stream_that_waits_long_on_a_living_peer_is_left_alone() -> None:
    async with lab() as made:
        one, two = await made.pair()
        watch = LinkWatch()
        stream = await held(one, two, watch)
        await asyncio.sleep(4 * link_watch.PERIOD_S)
        assert not stream.closed
        two.seen.held[0].write_now(b"at last")
        assert await stream.read(progress_s=1) == b"at last"
        stream.abort(AbortCode.CANCELLED)
        await until(lambda: not watch._watched)
        assert watch._timer is None, "nothing ticks without streams"


async def relayed(made: Lab) -> tuple[LabNode, LabNode, UdpRelay]:
    two = await made.node()
    relay = await UdpRelay.start((two.address.host, two.address.port))
    one = await made.node()
    await one.transport.dial([Address("127.0.0.1", relay.port)], two.id)
    return one, two, relay


async def test_mere_silence_is_lost_only_after_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_watch, "SILENT_MAX_S", 1.2)
    async with lab() as made:
        one, two, relay = await relayed(made)
        watch = LinkWatch()
        stream = await held(one, two, watch)
        await until(lambda: two.seen.held)
        relay.silent = True
        await asyncio.sleep(0.8)
        relay.silent = False
        await asyncio.sleep(0.8)
        assert not stream.closed, "a stall is no death"
        relay.silent = True
        began = time.monotonic()
        with pytest.raises(StreamAbortedError, match="silent"):
            await stream.read(progress_s=5)
        assert 1.0 < time.monotonic() - began < 2.0
        watch.close()


async def test_a_stall_of_this_process_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_watch, "SILENT_MAX_S", 1.2)
    async with lab() as made:
        one, two = await made.pair()
        watch = LinkWatch()
        stream = await held(one, two, watch)
        await asyncio.sleep(0.1)
        time.sleep(2.0)  # noqa: ASYNC251 - what is tested
        await asyncio.sleep(0.6)
        assert not stream.closed
        watch.close()


async def test_streams_dial_when_the_link_is_down_and_say_when_nobody_is_there() -> None:
    async with lab() as made:
        one, two = await made.node(client=True), await made.node()
        streams = DialledStreams(one.transport, lambda node_id: [two.address])
        stream = await streams.open(two.id, "hold", 5.0)
        assert not stream.closed
        one.transport.close_link(one.link_to(two), "test")
        await until(lambda: stream.closed)
        again = await streams.open(two.id, "hold", 5.0)
        assert not again.closed
        nowhere = DialledStreams(one.transport, lambda node_id: [])
        with pytest.raises(DialError):
            await nowhere.open(one.id, "hold", 1.0)
        vanish(two)
        one.transport.close_link(one.link_to(two), "test")
        began = time.monotonic()
        with pytest.raises(DialError):
            await streams.open(two.id, "hold", 5.0)
        assert time.monotonic() - began < 1.0
        streams.close()


async def test_a_dial_takes_no_longer_than_the_request_has() -> None:
    async with lab() as made:
        one, two, relay = await relayed(made)
        one.transport.close_link(one.link_to(two), "test")
        relay.silent = True
        place = Address("127.0.0.1", relay.port)
        streams = DialledStreams(one.transport, lambda node_id: [place])
        patient = asyncio.ensure_future(one.transport.dial([place], two.id, 5.0))
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(DialError):
            await streams.open(two.id, "hold", 0.2)
        assert time.monotonic() - began < 0.6
        relay.silent = False
        assert (await patient).is_up, "who had more time still gets the link"
