"""The adapter between the membership core's effects and events and the transport, on real sockets."""

import asyncio
import os
import time
from typing import Any

import pytest

from nodes.mesh.gossip_effects import (
    CloseLink,
    OpenLink,
    ProbePort,
    SendAnswer,
    SendDatagram,
    SendRequest,
)
from nodes.mesh.gossip_events import (
    Contact,
    DatagramReceived,
    DialFailed,
    LinkDown,
    LinkEnd,
    LinkIdle,
    LinkUp,
    PeerRevoked,
    PortRefused,
    RequestAnswered,
    RequestFailed,
    RequestId,
    RequestReceived,
)
from nodes.runtime import bind_port, key_handover, renewal, trust_notices
from nodes.runtime.address import Address
from nodes.runtime.link import Link
from nodes.runtime.links import PeerLinks
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from tests.nodes.link_lab import Lab, LabNode, lab, until


class CoreNode:
    """A node whose core is this test."""

    def __init__(self, node: LabNode, links: PeerLinks, told: list) -> None:
        self.node, self.links, self.told = node, links, told
        self.contact = Contact(node.id, (str(node.address),))

    def of(self, kind: type) -> list:
        return [event for event in self.told if isinstance(event, kind)]


async def core_node(made: Lab, link_idle_s: float = 60.0, **options: Any) -> CoreNode:
    told: list = []
    node = await made.node(**options)

    async def echo(link: Link, stream: Stream) -> None:
        while chunk := await stream.read():
            await stream.write(chunk)
        stream.end()

    async def key(link: Link, stream: Stream) -> None:
        await key_handover.give(node.trust, link, stream)

    async def renew(link: Link, stream: Stream) -> None:
        await renewal.give(node.trust, link, stream, lambda: time.time() + 60)

    handlers = {"request": echo, key_handover.KEY_KIND: key, renewal.RENEW_KIND: renew}
    links = PeerLinks(told.append, link_idle_s, handlers)
    node.transport._events = links
    node.transport._table._events = links
    links.attach(node.transport)
    return CoreNode(node, links, told)


async def core_pair(made: Lab, **options: Any) -> tuple[CoreNode, CoreNode]:
    one, two = await core_node(made, **options), await core_node(made, **options)
    one.links.perform(OpenLink(two.contact, 2.0))
    await until(lambda: one.of(LinkUp) and two.of(LinkUp))
    return one, two


async def test_an_opened_link_is_told_to_both_cores_with_the_peers_address() -> None:
    async with lab() as made:
        one, two = await core_pair(made)
        [up], [seen] = one.of(LinkUp), two.of(LinkUp)
        assert (up.peer, up.dialled, up.address) == (two.node.id, True, str(two.node.address))
        assert (seen.peer, seen.dialled, seen.address) == (
            one.node.id,
            False,
            str(one.node.address),
        )


async def test_a_dial_to_a_closed_port_fails_as_refused_and_one_to_nonsense_does_not() -> None:
    async with lab() as made:
        one, gone = await core_node(made), await made.node()
        await gone.transport.close()
        closed = Contact(gone.id, (str(gone.address),))
        one.links.perform(OpenLink(closed, 1.0))
        await until(lambda: one.of(DialFailed))
        assert one.told == [DialFailed(closed, refused=True)]
        nonsense = Contact(gone.id, ("not an address", "box:99999"))
        one.links.perform(OpenLink(nonsense, 1.0))
        await until(lambda: len(one.told) == 2)
        assert one.told[1] == DialFailed(nonsense, refused=False)


async def test_datagrams_reach_the_other_core_and_are_dropped_without_a_link() -> None:
    async with lab() as made:
        one, two = await core_pair(made)
        one.links.perform(SendDatagram(two.node.id, b"probe"))
        await until(lambda: two.of(DatagramReceived))
        assert two.of(DatagramReceived) == [DatagramReceived(one.node.id, b"probe")]
        three = await core_node(made)
        one.links.perform(SendDatagram(three.node.id, b"nobody"))
        await asyncio.sleep(0.05)
        assert not three.told


async def test_a_request_dials_by_itself_and_brings_the_whole_answer() -> None:
    async with lab() as made:
        one, two = await core_node(made), await core_node(made)
        asked = os.urandom(300_000)
        one.links.perform(SendRequest(two.contact, RequestId(7), asked, 5.0))
        await until(lambda: two.of(RequestReceived))
        [received] = two.of(RequestReceived)
        assert (received.peer, received.data) == (one.node.id, asked)
        answer = os.urandom(400_000)
        two.links.perform(SendAnswer(one.node.id, received.request, answer))
        await until(lambda: one.of(RequestAnswered))
        assert one.of(RequestAnswered) == [RequestAnswered(RequestId(7), answer)]
        await until(lambda: not one.node.link_to(two.node).active_streams)
        await until(lambda: not two.node.link_to(one.node).active_streams)


async def test_a_request_that_is_never_answered_fails_in_time_and_holds_no_stream() -> None:
    async with lab() as made:
        one, two = await core_pair(made)
        one.links.perform(SendRequest(two.contact, RequestId(8), b"?", 0.2))
        await until(lambda: one.of(RequestFailed))
        assert one.of(RequestFailed) == [RequestFailed(RequestId(8), refused=False)]
        assert not one.node.link_to(two.node).active_streams
        await until(lambda: not two.node.link_to(one.node).active_streams)


async def test_a_request_to_a_closed_port_fails_as_refused() -> None:
    async with lab() as made:
        one, gone = await core_node(made), await made.node()
        await gone.transport.close()
        one.links.perform(
            SendRequest(Contact(gone.id, (str(gone.address),)), RequestId(9), b"?", 2.0)
        )
        await until(lambda: one.of(RequestFailed))
        assert one.of(RequestFailed) == [RequestFailed(RequestId(9), refused=True)]


async def test_more_requests_than_the_bound_fail_at_once_instead_of_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nodes.runtime.links.TASKS_MAX", 4)
    async with lab() as made:
        one, two = await core_pair(made)
        for number in range(10):
            one.links.perform(SendRequest(two.contact, RequestId(number), b"?", 5.0))
        await until(lambda: len(one.of(RequestFailed)) == 6)
        await one.links.close()


async def test_closing_names_one_connection_and_spares_its_replacement() -> None:
    async with lab() as made:
        one, two = await core_pair(made)
        [first] = one.of(LinkUp)
        await one.node.transport.dial([two.node.address], two.node.id, fresh=True)
        second = one.of(LinkUp)[1]
        assert second.link != first.link
        one.links.perform(CloseLink(two.node.id, first.link, "idle"))
        assert one.node.link_to(two.node).is_up
        one.links.perform(CloseLink(two.node.id, second.link, "idle"))
        assert one.of(LinkDown) == [LinkDown(two.node.id, second.link, LinkEnd.CLOSED)]
        await until(lambda: two.of(LinkDown))


async def test_a_closed_port_is_told_when_probed_and_an_open_one_is_not() -> None:
    async with lab() as made:
        one, two, gone = await core_node(made), await core_node(made), await made.node()
        await gone.transport.close()
        one.links.perform(ProbePort(gone.id, str(gone.address)))
        one.links.perform(ProbePort(two.node.id, str(two.node.address)))
        await until(lambda: one.of(PortRefused))
        await asyncio.sleep(0.1)
        assert one.told == [PortRefused(gone.id, str(gone.address))]
        assert not two.told


async def test_an_unused_link_is_told_as_idle_again_and_again_but_not_while_a_stream_is_open() -> (
    None
):
    async with lab() as made:
        one, two = await core_pair(made, link_idle_s=0.2)
        await until(lambda: len(one.of(LinkIdle)) >= 2)
        stream = await one.node.link_to(two.node).open_stream("request")
        await asyncio.sleep(0.1)
        one.told.clear()
        await asyncio.sleep(0.4)
        assert not one.of(LinkIdle)
        stream.abort(AbortCode.CANCELLED)
        await until(lambda: one.of(LinkIdle))


async def test_a_client_leaves_no_trace_in_the_core_and_may_use_requests_only() -> None:
    async with lab() as made:
        one, client = await core_node(made), await made.node(client=True)
        link = await client.transport.dial([one.node.address], one.node.id)
        link.send_datagram(b"gossip?")
        stream = await link.open_stream("request")
        await stream.write(b"hello")
        assert await stream.read() == b"hello"
        for kind in ("gossip", key_handover.KEY_KIND, "unheard-of"):
            refused = await link.open_stream(kind)
            with pytest.raises(StreamAbortedError):
                await refused.read_all(100, 2.0)
        client.transport.close_link(link, "bye")
        await until(lambda: not one.node.transport.links)
        assert not one.told


async def test_a_revocation_that_gossip_brings_closes_the_link_and_is_told() -> None:
    async with lab() as made:
        one, two = await core_pair(made)
        record = made.nodes[0].trust.revoke(two.node.id)
        topic, version, body = trust_notices.revocation_notice(record)
        assert trust_notices.accept_notice(two.node.trust, topic, version, body)
        one.links.peer_revoked(two.node.id)
        assert [type(e) for e in one.told[-2:]] == [LinkDown, PeerRevoked]
        await until(lambda: two.of(LinkDown))


async def test_a_member_that_was_away_fetches_the_rotated_key_and_both_admit_each_other() -> None:
    async with lab() as made:
        one, two = await core_pair(made)
        record = one.node.trust.rotate()
        assert two.node.trust.add_records([], [record])
        assert await key_handover.fetch(two.node.trust, two.node.link_to(one.node))
        assert two.node.trust.mesh_key is not None and one.node.trust.mesh_key is not None
        assert two.node.trust.mesh_key.seed == one.node.trust.mesh_key.seed
        assert two.node.trust.credential().epoch == 2
        await two.node.transport.dial([one.node.address], one.node.id, fresh=True)
        assert two.node.link_to(one.node).is_up


async def test_a_client_renews_its_credential_over_its_link_and_a_revoked_one_does_not() -> None:
    async with lab() as made:
        one, client = await core_node(made), await made.node(client=True)
        before = client.trust.credential()
        link = await client.transport.dial([one.node.address], one.node.id)
        assert await renewal.fetch(client.trust, link)
        after = client.trust.credential()
        assert after.expires_s > before.expires_s
        assert after.role is before.role
        await client.transport.dial([one.node.address], one.node.id, fresh=True)
        one.node.trust.revoke(client.id)
        assert not await renewal.fetch(client.trust, link)
        assert client.trust.credential() is after


async def test_one_socket_for_ipv4_and_ipv6_is_reached_by_both() -> None:
    async with lab() as made:
        one = await made.node()
        both = await made.node(client=True)
        listening = await made.node(client=False)
        bound = bind_port.bind(None)
        port = await listening.transport.listen(bound.sock)
        assert port == bound.port
        for who, host in ((one, "127.0.0.1"), (both, "::1")):
            link = await who.transport.dial([Address(host, port)], listening.id)
            assert link.is_up
        await until(lambda: len(listening.transport.links) == 2)
        seen = listening.link_to(one).listen_address()
        assert seen == one.address, "an IPv4 peer is shown as such on a dual-stack socket"
