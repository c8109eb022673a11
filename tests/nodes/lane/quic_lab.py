"""Two lanes whose nodes are linked by real QUIC: the whole fallback, in one process."""

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

from nodes.mesh.ids import NodeId
from nodes.runtime.lane.bulk import BULK_KIND, BulkStreams
from nodes.runtime.lane.settings import LaneSettings
from nodes.runtime.link import Link
from nodes.runtime.streams import Stream
from nodes.runtime.tasks import TaskSet
from tests.nodes.lane.lab import QUICK, LabLane, LaneLab, lanes
from tests.nodes.link_lab import Lab, LabNode, lab, overrule


@dataclass
class QuicPair:
    """Two members; neither lane knows where the other listens, so they begin with QUIC."""

    one: LabLane
    two: LabLane
    first: LabNode
    second: LabNode
    bulk: list[BulkStreams]


@contextlib.asynccontextmanager
async def quic_pair(settings: LaneSettings = QUICK) -> AsyncIterator[QuicPair]:
    async with lab() as links, lanes() as lane_lab:
        lane_lab.key = links.key
        first, second = await links.pair()
        bulk: list[BulkStreams] = []
        tasks = TaskSet()
        one = await _with_quic(lane_lab, links, first, bulk, tasks, settings)
        two = await _with_quic(lane_lab, links, second, bulk, tasks, settings)
        try:
            yield QuicPair(one, two, first, second, bulk)
        finally:
            for streams in bulk:
                await streams.close()
            await tasks.cancel()


async def _with_quic(
    lane_lab: LaneLab,
    links: Lab,
    node: LabNode,
    bulk: list[BulkStreams],
    tasks: TaskSet,
    settings: LaneSettings,
) -> LabLane:
    made: list[LabLane] = []

    def hand_over(peer: NodeId, sock: socket.socket) -> None:
        tasks.spawn(made[0].lane.adopt(peer, sock.dup()))

    streams = BulkStreams(hand_over)
    bulk.append(streams)

    async def open_quic(peer: NodeId) -> socket.socket:
        return await streams.open(node.transport.links[peer])

    async def serve(link: Link, stream: Stream) -> None:
        assert stream.kind == BULK_KIND
        await streams.serve(link, stream)

    overrule(node.seen, "stream", serve)
    made.append(await lane_lab.lane(trust=node.trust, open_quic=open_quic, settings=settings))
    return made[0]
