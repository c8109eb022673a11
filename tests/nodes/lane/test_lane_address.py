"""Where a peer's lane is, asked over the link: the link's own host, and the port that it tells."""

import pytest

from nodes.runtime.lane import address
from nodes.runtime.lane.endpoints import LaneEndpoint
from nodes.runtime.link import Link
from nodes.runtime.streams import Stream
from tests.nodes.link_lab import LabNode, lab, overrule, until


def serving(node: LabNode, content: bytes | None, port: int = 0) -> None:
    async def serve(link: Link, stream: Stream) -> None:
        if content is None:
            await address.tell(lambda: port, link, stream)
        else:
            await stream.write(content)
            stream.end()

    overrule(node.seen, "stream", serve)


async def test_a_member_hears_the_port_and_knows_the_host() -> None:
    async with lab() as links:
        one, two = await links.pair()
        serving(two, None, 40123)
        assert await address.ask(one.link_to(two)) == LaneEndpoint("127.0.0.1", 40123)


async def test_a_node_without_a_lane_has_no_address() -> None:
    async with lab() as links:
        one, two = await links.pair()
        serving(two, None, 0)
        assert await address.ask(one.link_to(two)) is None


@pytest.mark.parametrize("content", [b"", b"x", b"abcdefgh"])
async def test_an_answer_that_makes_no_sense_is_none(content: bytes) -> None:
    async with lab() as links:
        one, two = await links.pair()
        serving(two, content)
        assert await address.ask(one.link_to(two)) is None


async def test_a_client_is_told_nothing() -> None:
    async with lab() as links:
        member, client = await links.node(), await links.node(client=True)
        serving(member, None, 40123)
        link = await client.transport.dial([member.address], member.id)
        await until(lambda: client.id in member.transport.links)
        assert await address.ask(link) is None
