"""What the node needs of its side of the mesh, whether it is a full member or a passive client."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from nodes.mesh.effects import LinkEffect
from nodes.mesh.gossip_effects import PublishNotice, RememberContacts
from nodes.mesh.ids import NodeId
from nodes.runtime.address import Address
from nodes.runtime.driver import Driver
from nodes.runtime.links import parsed_addresses
from nodes.runtime.transport import Transport


class Host(Protocol):
    """What a side needs of the node around it."""

    driver: Driver

    def notice(self, kind: str, text: str | None) -> None: ...
    def cannot_go_on(self, text: str) -> None: ...
    def waiting_changed(self, waiting: tuple[dict[str, Any], ...]) -> None: ...


class Side(ABC):
    """The node's side of the mesh. `run` as a task; `close` at the end."""

    transport: Transport

    def __init__(self, host: Host) -> None:
        self._host = host
        self.entered = asyncio.Event()
        """Set once the node is in a mesh: joined, come back to, or begun."""
        self.alone_because = ""
        """Why no machine of the mesh that a token names was reached at the start; empty: one was."""

    @abstractmethod
    async def run(self) -> None:
        """Come into the mesh, and stay in it until cancelled."""

    @abstractmethod
    async def close(self) -> None:
        """Give up what is under way and close all links."""

    def invite_token(self) -> str:
        """Return the start-up token; empty: this node cannot let anybody in."""
        return ""

    def addresses_of(self, node_id: NodeId) -> Sequence[Address]:
        """Return where a node can be dialled, as it says itself; none when it is not known now."""
        view = self._host.driver.node.members.get(node_id)
        return parsed_addresses(view.announcement.addresses) if view is not None else ()

    def silence_s(self, node_id: NodeId) -> float | None:
        """Return for how long nothing has come over the link to a node; None: there is no link."""
        link = self.transport.links.get(node_id)
        if link is None or not link.strands:
            return None
        # A request may wait on any of them, and only those with streams are pinged.
        heard_s = max(strand.connection.last_received_s for strand in link.strands)
        return asyncio.get_running_loop().time() - heard_s

    @abstractmethod
    def use_failed(self, node_id: NodeId) -> None:
        """A request found the way to a node broken."""

    # What only a member's core asks for:

    def perform(self, effect: LinkEffect) -> None:  # noqa: B027 - a client has none
        """Carry out what the core wants of the network."""

    def remember(self, effect: RememberContacts) -> None:  # noqa: B027 - a client has none
        """Keep where the mesh was seen, over a restart."""

    def noticed(self, notice: PublishNotice) -> None:  # noqa: B027 - a client has none
        """Take over an accepted word about trust."""

    def twin(self, text: str) -> None:  # noqa: B027 - a client has none
        """Another process uses this node's key."""
