"""Streams to peers, opened on demand: the link is dialled when it is down, and watched while it is used.

Decides how long a dial may take, and which addresses are tried. Whether a peer may be asked at all is
for routing; whether it is dead is for membership.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from nodes.mesh.ids import NodeId
from nodes.runtime.address import Address
from nodes.runtime.dial_errors import DialError
from nodes.runtime.link import Link
from nodes.runtime.link_watch import LinkWatch
from nodes.runtime.streams import Stream
from nodes.runtime.transport import Transport

DIAL_MAX_S = 3.0
"""For a link that is down: a request in hand waits so long, then another host is asked."""


class PeerStreams(Protocol):
    """Opens streams to peers."""

    async def open(self, node_id: NodeId, kind: str, deadline_s: float) -> Stream:
        """Return a new stream of `kind` to this peer, dialling it within `deadline_s` where needed.

        Raises:
            DialError: no address led to it in time.
            StreamAbortedError: the link went down meanwhile, or carries as many streams as it can.
        """
        ...


async def link_to(
    transport: Transport, addresses: Sequence[Address], node_id: NodeId, limit_s: float
) -> Link:
    """Return the link to a peer, dialled within `limit_s` where it is down.

    Raises:
        DialError: no address led to it in time.
    """
    link = transport.links.get(node_id)
    if link is not None and link.is_up:
        return link
    try:
        # A dial that others began is shared, and may have more time than this one.
        async with asyncio.timeout(limit_s):
            return await transport.dial(addresses, node_id, limit_s)
    except TimeoutError:
        raise DialError({}) from None


class DialledStreams:
    """`PeerStreams` over a transport."""

    def __init__(
        self, transport: Transport, addresses: Callable[[NodeId], Sequence[Address]]
    ) -> None:
        """`addresses` tells where a peer can be dialled; none: only a link that is up is used."""
        self._transport = transport
        self._addresses = addresses
        self._watch = LinkWatch()

    async def open(self, node_id: NodeId, kind: str, deadline_s: float) -> Stream:
        """See `PeerStreams`."""
        limit_s = min(deadline_s, DIAL_MAX_S)
        link = await link_to(self._transport, self._addresses(node_id), node_id, limit_s)
        stream = await link.open_stream(kind)
        self._watch.add(link, stream)
        return stream

    def close(self) -> None:
        """Watch no more."""
        self._watch.close()
