"""What the peer link tells: the one seam between `transport` and whoever decides about members."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol

from nodes.mesh.ids import NodeId
from nodes.runtime.address import Address
from nodes.runtime.link import Link, LinkNumber
from nodes.runtime.streams import Stream


class LinkEnd(StrEnum):
    """Why a link is gone."""

    CLOSED = "closed"
    """One of the two ends closed it in order."""
    LOST = "lost"
    """Silence, an error, or broken rules."""


class TransportEvents(Protocol):
    """Who is told. All calls but `stream` are plain functions and must not block."""

    def link_up(self, link: Link) -> None:
        """A link is ready, or another connection of it is in use now (its `number` says which)."""

    def link_down(self, link: Link, number: LinkNumber, reason: LinkEnd, text: str) -> None:
        """The link has no connection left; `number` is that of the last one."""

    def datagram(self, link: Link, content: bytes) -> None:
        """A datagram came."""

    async def stream(self, link: Link, stream: Stream) -> None:
        """The peer opened a stream. An exception aborts it; the end is the callee's to send."""

    def port_refused(self, link: Link, address: Address) -> None:
        """The peer's machine said, unasked, that the port of the link in use is closed."""

    def twin_seen(self, node_id: NodeId, text: str) -> None:
        """Two running processes use one key."""


JoinHandler = Callable[[Stream, NodeId, str], Awaitable[None]]
"""Serves one stream under `mesh-join/1`: the stream, the unknown id that holds it, its address."""
