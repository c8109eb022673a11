"""The membership core on real links: the smallest driver that can run it, for tests of the seam."""

import asyncio
import contextlib
import math
import os
import random
import time
from typing import Any

from nodes.mesh import config
from nodes.mesh.announcement import Announcement
from nodes.mesh.events import TimePassed
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_effects import (
    CloseLink,
    GossipEffect,
    MemberState,
    OpenLink,
    ProbePort,
    SendAnswer,
    SendDatagram,
    SendRequest,
)
from nodes.mesh.gossip_events import Contact, GossipEvent, JoinRequested
from nodes.mesh.ids import NodeId
from nodes.mesh.records import NodeIdentity
from nodes.runtime import identity, trust_notices
from nodes.runtime.identity import Identity
from nodes.runtime.links import PeerLinks
from tests.nodes.link_lab import Lab, LabNode

_LINK_EFFECTS = (SendDatagram, SendRequest, SendAnswer, OpenLink, CloseLink, ProbePort)


class Member:
    """One node: core, links and a loop that hands events and effects to and fro."""

    def __init__(self, node: LabNode, name: str) -> None:
        self.node = node
        self.others: list[GossipEffect] = []
        """Effects that are not the transport's."""
        self._inbox: asyncio.Queue[GossipEvent] = asyncio.Queue()
        self.links = PeerLinks(self._inbox.put_nowait, config.lan().link_idle_s)
        node.transport._events = self.links
        node.transport._table._events = self.links
        self.links.attach(node.transport)
        trust = node.trust
        judge = NodeIdentity(
            public_key=trust.identity.public_key,
            credential=trust.credential().encode(),
            boot=os.urandom(8),
            sign=trust.identity.sign,
            # The core has content before signature, `identity.verify` the other way round.
            verify=lambda key, content, signature: identity.verify(key, signature, content),
            accept_member=lambda *shown: trust_notices.accept_member(trust, *shown),
            accept_notice=lambda *shown: trust_notices.accept_notice(trust, *shown),
        )
        announcement = Announcement(name=name, addresses=(str(node.address),))
        self.core = GossipNode(
            judge, announcement, int(time.time() * 1000), config.lan(), random.Random(name),
            time.monotonic(),
        )  # fmt: skip
        self._task = asyncio.ensure_future(self._run())

    def join(self, other: "Member") -> None:
        contact = Contact(other.node.id, (str(other.node.address),))
        self._inbox.put_nowait(JoinRequested((contact,)))

    def alive(self) -> set[NodeId]:
        return {view.node_id for view in self.core.members() if view.state is MemberState.ALIVE}

    async def _run(self) -> None:
        while True:
            wait_s = self.core.deadline - time.monotonic()
            event: GossipEvent = TimePassed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s == math.inf else max(0.0, wait_s)):
                    event = await self._inbox.get()
            for effect in self.core.handle(event, time.monotonic()):
                if isinstance(effect, _LINK_EFFECTS):
                    self.links.perform(effect)
                else:
                    self.others.append(effect)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.links.close()

    async def kill(self) -> None:
        """Be gone as after kill -9: the sockets close and nobody says goodbye."""
        await self.stop()
        connections: list[Any] = [*self.node.transport._table.strands, *self.node.listener.accepted]
        for connection in connections:
            if connection._timer is not None:
                connection._timer.cancel()
            connection._transport.abort()
            connection.transmit = lambda: None
        self.node.listener._transport.abort()


async def member(lab: Lab, name: str, who: Identity | None = None) -> Member:
    """Return a running node of the lab's mesh."""
    return Member(await lab.node(who=who), name)
