"""A passive client's side: it uses a mesh without being part of it (scenarios 5, 8 and 15).

Joins by a token for a client's credential, asks any member for its table, dials each host itself. Takes
no part in gossip, listens nowhere, keeps nothing: its identity is in memory.
"""

import asyncio
import logging
import time

from meshsite import mesh_entry
from meshsite.mesh_entry import CannotJoin, Standing
from meshsite.options import Options
from meshsite.side import Host, Side
from meshsite.version import VERSION
from nodes.mesh import config
from nodes.mesh.client_events import TableReceived
from nodes.mesh.gossip_effects import MemberView
from nodes.mesh.gossip_events import Contact
from nodes.mesh.ids import NodeId
from nodes.runtime import client_table, mesh_key, renewal
from nodes.runtime.client_table import TableError
from nodes.runtime.credentials import CLIENT_LIFETIME_S, Role
from nodes.runtime.dial_errors import DialError
from nodes.runtime.joining import JoinError
from nodes.runtime.link import Link
from nodes.runtime.links import PeerLinks, parsed_addresses
from nodes.runtime.transport import Transport
from nodes.runtime.trust import Trust

log = logging.getLogger("mesh.node")

REFRESH_S = 10.0
"""How often the table is fetched anew, at the latest (spec, Pinned 15: at most 30 s)."""
REFRESH_MIN_S = 0.25
"""Failures fetch it at once, but not more often than this."""
DIAL_S = 3.0
CONTACTS_MAX = 32
"""Members asked for a table, the one that answered last first."""


class ClientSide(Side):
    """A client's place beside a mesh."""

    def __init__(self, found: Standing, options: Options, name: str, host: Host) -> None:
        super().__init__(host)
        self._found = found
        self._options = options
        self._name = name
        # Until it has joined it has no mesh: the key is nobody's, and nothing is dialled with it.
        self._trust = Trust(found.who, mesh_key.new_mesh())
        self._links = PeerLinks(lambda event: None, config.lan().link_idle_s)
        self.transport = Transport(self._trust, self._links, software=VERSION)
        self._links.attach(self.transport)
        self._contacts: dict[NodeId | None, Contact] = {}
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Join, then keep the table true until cancelled."""
        try:
            joined = await mesh_entry.join(self._found, self._options.join, Role.CLIENT, self._name)
        except (CannotJoin, JoinError) as error:
            self._host.cannot_go_on(f"This client reaches no mesh. {error}")
            return
        self._trust.enter(None, joined.credential)
        self._trust.add_records(joined.revocations, [])
        for contact in mesh_entry.contacts_of(joined, self._options.join, self._trust.node_id):
            self._know(contact)
        while True:
            await self._refresh()
            self._wanted.clear()
            await asyncio.sleep(REFRESH_MIN_S)
            try:
                async with asyncio.timeout(REFRESH_S - REFRESH_MIN_S):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Close all links."""
        await self._links.close()
        await self.transport.close()

    def use_failed(self, node_id: NodeId) -> None:
        """A request found the way to a node broken: the table is fetched anew at once."""
        self._wanted.set()

    async def _refresh(self) -> None:
        """Fetch the table from the first member that gives one; keep the old one where nobody does."""
        for contact in tuple(self._contacts.values()):
            try:
                link = await self.transport.dial(
                    parsed_addresses(contact.addresses), contact.node_id, DIAL_S
                )
                async with asyncio.timeout(client_table.TIMEOUT_S):
                    hosts = await client_table.fetch(link)
            except (DialError, TableError, TimeoutError):
                continue
            self._take(hosts, link)
            await self._renew(link)
            return
        if self.entered.is_set():
            log.warning(
                "No machine of the mesh gives its table; the last one is kept, trying again."
            )
            self._host.notice("alone", "No machine of the mesh answers; asking again.")
        else:
            self._host.cannot_go_on("This client reaches no machine of the mesh.")

    def _take(self, hosts: tuple[MemberView, ...], link: Link) -> None:
        for view in reversed(hosts):
            self._know(Contact(view.node_id, view.announcement.addresses))
        self._know(Contact(link.peer_id, self._contacts[link.peer_id].addresses))
        self._host.driver.post(TableReceived(hosts))
        self._host.notice("alone", None)
        self.entered.set()

    def _know(self, contact: Contact) -> None:
        """Ask this member first from now on; of too many, the one not heard of for longest goes."""
        self._contacts.pop(contact.node_id, None)
        self._contacts = {contact.node_id: contact, **self._contacts}
        while len(self._contacts) > CONTACTS_MAX:
            self._contacts.popitem()

    async def _renew(self, link: Link) -> None:
        left_s = self._trust.credential().expires_s - time.time()
        if left_s < CLIENT_LIFETIME_S / 2:
            await renewal.fetch(self._trust, link)
