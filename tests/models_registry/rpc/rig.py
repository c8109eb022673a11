"""Nodes for tests of a split: each with a real lane process, linked by real QUIC; engines as asked for.

What the composition of a node will do with the parts, in small: exchange addresses, hand over streams.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from models_registry.log_ring import EngineLogs
from models_registry.rpc import control_words as cw
from models_registry.rpc.lane_process import LaneProcess
from models_registry.supervision.guard_link import GuardLink
from models_registry.supervision.roster import Roster
from nodes.mesh.ids import NodeId
from nodes.runtime.lane.bulk import BULK_KIND, BulkStreams
from nodes.runtime.lane.endpoints import LaneEndpoint
from nodes.runtime.link import Link
from nodes.runtime.streams import Stream
from tests.nodes.link_lab import Lab, LabNode, lab, overrule

LOOPBACK = "127.0.0.1"


@dataclass
class RigNode:
    """One node: its link to others, and its lane."""

    node: LabNode
    lane: LaneProcess
    bulk: BulkStreams
    guard: GuardLink
    folder: Path
    ports_lost: int = 0
    port_lost: list[tuple[int, str]] = field(default_factory=list)
    reports: list[cw.Report] = field(default_factory=list)

    @property
    def id(self) -> NodeId:
        return self.node.id

    def knows(self, *others: "RigNode") -> None:
        for other in others:
            self.lane.set_endpoint(other.id, LaneEndpoint(LOOPBACK, other.lane.listen_port))

    def log(self) -> str:
        return "\n".join(p.read_text(errors="replace") for p in self.folder.glob("log/*"))


class Rig:
    """Makes such nodes of one mesh, and ends them."""

    def __init__(self, folder: Path, links: Lab) -> None:
        self.folder = folder
        self.links = links
        self.nodes: list[RigNode] = []

    async def node(self, *, quic_only: bool = False) -> RigNode:
        """Return a node whose lane process runs; it is linked to those before it."""
        node = await self.links.node()
        folder = self.folder / f"node{len(self.nodes)}"
        made: list[RigNode] = []

        def hand_over(peer: NodeId, sock: socket.socket) -> None:
            made[0].lane.adopt(peer, sock)

        bulk = BulkStreams(hand_over)

        async def serve(link: Link, stream: Stream) -> None:
            assert stream.kind == BULK_KIND
            await bulk.serve(link, stream)

        async def open_quic(peer: NodeId) -> socket.socket:
            link = node.transport.links.get(peer)
            if link is None:
                raise ConnectionError("no link to this peer")
            return await bulk.open(link)

        def lost() -> None:
            made[0].ports_lost += 1

        def reported(report: cw.Report) -> None:
            made[0].reports.append(report)

        overrule(node.seen, "stream", serve)
        guard = GuardLink()
        await guard.start()
        lane = LaneProcess(
            Roster(folder / "run", guard),
            EngineLogs(folder / "log").open("lane"),
            node.trust,
            open_quic,
            digests_folder=folder / "digests",
            on_report=reported,
            on_ports_lost=lost,
            on_port_lost=lambda port, reason: made[0].port_lost.append((port, reason)),
        )
        made.append(RigNode(node, lane, bulk, guard, folder))
        self.nodes.append(made[0])
        await lane.start()
        if not quic_only:
            await lane.listen(LOOPBACK, 0)
        for other in self.nodes[:-1]:
            await node.transport.dial([other.node.address], other.id)
        return made[0]

    async def pair(self) -> tuple[RigNode, RigNode]:
        """Return a host and a worker that know each other's lane."""
        host, worker = await self.node(), await self.node()
        host.knows(worker)
        worker.knows(host)
        return host, worker

    async def close(self) -> None:
        for one in self.nodes:
            await one.lane.close()
            await one.bulk.close()
            await one.guard.close()


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    async with lab() as links:
        made = Rig(folder, links)
        try:
            yield made
        finally:
            await made.close()


async def settled(node: RigNode) -> cw.Report:
    """Return a report that was made after now."""
    before = len(node.reports)
    async with asyncio.timeout(5):
        while len(node.reports) == before:  # noqa: ASYNC110 - told by another process
            await asyncio.sleep(0.02)
    return node.lane.report
