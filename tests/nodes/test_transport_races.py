"""Two dials that cross, restarts, stale connections and changed addresses: one link, never the wrong end."""

import asyncio
import os
from dataclasses import replace

import pytest

from nodes.runtime import identity
from nodes.runtime.address import Address
from nodes.runtime.counters import Counted
from nodes.runtime.dial_errors import DialError
from nodes.runtime.port_probe import PortAnswer, probe_port
from nodes.runtime.transport_events import LinkEnd
from tests.fakes.udp_relay import UdpRelay
from tests.nodes.link_lab import QUICK, Lab, LabNode, lab, until


async def crossed(made: Lab) -> tuple[LabNode, LabNode]:
    """Return two nodes that have dialled each other at the same moment; the lower id first."""
    nodes = sorted([await made.node(), await made.node()], key=lambda node: node.id)
    one, two = nodes
    await asyncio.gather(
        one.transport.dial([two.address], two.id), two.transport.dial([one.address], one.id)
    )
    return one, two


async def test_of_two_crossed_dials_both_ends_keep_the_one_of_the_lower_id() -> None:
    async with lab() as made:
        one, two = await crossed(made)
        await until(lambda: one.link_to(two).dialled and not two.link_to(one).dialled)
        # Whether both dials came through or one gave way early, one link is in use at each end.
        assert len(one.transport.links) == len(two.transport.links) == 1


async def test_the_loser_of_crossed_dials_keeps_its_streams_until_they_end_and_then_goes() -> None:
    async with lab() as made:
        settings = replace(QUICK, drain_min_s=0.1)
        nodes = [await made.node(settings=settings) for _ in range(2)]
        one, two = sorted(nodes, key=lambda node: node.id)
        # The higher id dials first and has a stream; then the lower one dials, and wins.
        first = await two.transport.dial([one.address], one.id)
        stream = await first.open_stream("echo")
        await stream.write(b"before")
        assert await stream.read() == b"before"
        await one.transport.dial([two.address], two.id, fresh=True)
        await until(lambda: one.link_to(two).dialled and not two.link_to(one).dialled)
        assert len(two.link_to(one).strands) == 2
        await asyncio.sleep(1.2)
        await stream.write(b"after")
        assert await stream.read() == b"after"
        stream.end()
        assert await stream.read() == b""
        await until(lambda: len(two.link_to(one).strands) == 1)
        await until(lambda: len(one.link_to(two).strands) == 1)
        assert one.link_to(two).is_up
        assert two.link_to(one).is_up
        assert not one.seen.downs
        assert not two.seen.downs


async def test_a_stale_connections_end_does_not_remove_its_replacement() -> None:
    async with lab() as made:
        one, two = await made.pair()
        old = two.link_to(one).primary
        await one.transport.dial([two.address], two.id, fresh=True)
        await until(lambda: two.link_to(one).primary is not old)
        new_number = two.link_to(one).number
        assert old is not None
        old.connection.end(0, "stale")
        await asyncio.sleep(0.1)
        for node, other in ((one, two), (two, one)):
            assert node.link_to(other).is_up
            assert not node.seen.downs
        assert two.link_to(one).number == new_number
        two.link_to(one).send_datagram(b"still here")
        await until(lambda: one.seen.datagrams)


async def test_a_connection_that_only_one_end_still_holds_gives_way_to_a_new_dial() -> None:
    """After a partition one end may have closed what the other still holds: crossed or not, the dial wins."""
    async with lab() as made:
        nodes = sorted([await made.node(), await made.node()], key=lambda node: node.id)
        one, two = nodes
        await one.transport.dial([two.address], two.id)  # by the lower id, which wins crossed dials
        await until(lambda: one.id in two.transport.links)
        held = two.connection_to(one)
        gone = one.connection_to(two)
        gone.transmit = lambda: None  # its farewell and everything else is lost
        gone.end(0, "declared dead while they were apart")
        await until(lambda: two.id not in one.transport.links)
        await asyncio.sleep(1.1)
        link = await two.transport.dial([one.address], one.id, fresh=True)
        assert link.primary is not None and link.primary.connection is not held
        stream = await link.open_stream("echo")
        await stream.write(b"alive")
        async with asyncio.timeout(1.0):
            assert await stream.read() == b"alive"
        stream.end()


async def test_when_the_connection_in_use_ends_another_one_takes_its_place() -> None:
    async with lab() as made:
        one, two = await made.pair()
        await one.transport.dial([two.address], two.id, fresh=True)
        await until(lambda: len(two.seen.ups) == 2)
        one.connection_to(two).end(0, "gone")
        await until(lambda: len(two.seen.ups) == 3)
        assert one.link_to(two).is_up
        assert not one.seen.downs
        assert not two.seen.downs
        one.link_to(two).send_datagram(b"on the other one")
        await until(lambda: two.seen.datagrams)


async def test_a_restarted_peer_with_the_same_key_replaces_its_dead_connection() -> None:
    async with lab() as made:
        who = identity.ephemeral()
        two, before = await made.node(), await made.node(who=who)
        relay = await UdpRelay.start((two.address.host, two.address.port))
        await before.transport.dial([Address("127.0.0.1", relay.port)], two.id)
        await until(lambda: two.transport.links)
        relay.silent = True
        after = await made.node(who=who)
        await after.transport.dial([two.address], two.id)
        await until(lambda: len(two.seen.ups) == 2)
        await until(lambda: len(two.link_to(after).strands) == 1)
        assert two.link_to(after).is_up
        assert not two.seen.twins
        assert not two.seen.downs
        relay.close()


async def test_two_running_processes_with_one_key_are_noticed() -> None:
    async with lab() as made:
        who = identity.ephemeral()
        two, first, second = await made.node(), await made.node(who=who), await made.node(who=who)
        await first.transport.dial([two.address], two.id)
        await second.transport.dial([two.address], two.id)
        await until(lambda: two.seen.twins)
        assert two.seen.twins[0][0] == who.node_id
        assert two.transport.counters[Counted.TWINS_SEEN] == 1


async def test_a_copy_of_this_nodes_own_key_that_dials_it_is_noticed() -> None:
    async with lab() as made:
        who = identity.ephemeral()
        one, copy = await made.node(who=who), await made.node(who=who)
        with pytest.raises(DialError, match="uses this node's own key"):
            await copy.transport.dial([one.address], None)
        await until(lambda: one.seen.twins and copy.seen.twins)
        assert one.seen.twins[0][0] == who.node_id


async def test_a_peer_that_moved_is_reached_by_dialling_its_new_address() -> None:
    async with lab() as made:
        one, two = await made.node(), await made.node()
        relay = await UdpRelay.start((two.address.host, two.address.port))
        old_way = Address("127.0.0.1", relay.port)
        link = await one.transport.dial([old_way], two.id)
        relay.silent = True
        assert await one.transport.dial([two.address], two.id, fresh=True) is link
        link.send_datagram(b"by the new way")
        await until(lambda: two.seen.datagrams)
        assert not one.seen.downs
        relay.close()


async def test_a_port_that_closed_is_noticed_by_the_next_packet_of_a_dialled_link() -> None:
    async with lab() as made:
        one, two = await made.pair()
        # As after kill -9: the socket goes and nobody says goodbye.
        two.listener._transport.abort()
        await asyncio.sleep(0.02)
        one.link_to(two).send_datagram(b"anyone?")
        await until(lambda: one.seen.refused)
        assert one.seen.refused[0] == two.address
        assert one.link_to(two).is_up, "evidence for the core, which decides"


async def test_a_port_probe_tells_open_closed_and_silent_apart() -> None:
    async with lab() as made:
        one, two = await made.node(), await made.node()
        relay = await UdpRelay.start(("127.0.0.1", 9))
        relay.silent = True
        assert await probe_port(one.address) is PortAnswer.ANSWERED
        await two.transport.close()
        await asyncio.sleep(0.05)
        assert await probe_port(two.address) is PortAnswer.REFUSED
        assert await probe_port(Address("127.0.0.1", relay.port), 0.1) is PortAnswer.SILENT
        assert not one.transport.links
        relay.close()


async def test_many_dials_at_once_from_both_sides_end_in_one_link_each() -> None:
    async with lab() as made:
        nodes = [await made.node() for _ in range(4)]
        await asyncio.gather(
            *(
                one.transport.dial([two.address], two.id)
                for one in nodes
                for two in nodes
                if one is not two
            )
        )
        content = os.urandom(32)
        for one in nodes:
            for two in nodes:
                if one is not two:
                    assert one.link_to(two).send_datagram(content)
        await until(lambda: all(len(node.seen.datagrams) == 3 for node in nodes))
        assert not any(node.seen.downs for node in nodes)


async def test_closing_the_transport_tells_the_peer_at_once() -> None:
    async with lab() as made:
        one, two = await made.pair()
        await one.transport.close()
        await until(lambda: two.seen.downs, 1.0)
        assert two.seen.downs[0][2] is LinkEnd.CLOSED
        assert not one.seen.downs
