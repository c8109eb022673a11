"""A passive client's side: it uses a mesh without being part of it (scenarios 5, 8 and 15).

Joins by a token for a client's credential, asks any member for its table, dials each host itself. Takes
no part in gossip, listens nowhere, keeps nothing: its identity is in memory. A credential that ran out
while the machine slept is had anew by the token; a client that was expelled says so and ends.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from meshsite import mesh_entry
from meshsite.mesh_entry import CannotJoin, Standing
from meshsite.options import Options
from meshsite.side import Host, Side
from meshsite.version import VERSION
from nodes.mesh import config
from nodes.mesh.client_events import TableReceived
from nodes.mesh.gossip_events import Contact
from nodes.mesh.ids import NodeId
from nodes.runtime import client_table, mesh_key, renewal
from nodes.runtime.client_table import ClientTable, TableError
from nodes.runtime.credentials import CLIENT_LIFETIME_S, Role
from nodes.runtime.dial_errors import DialError
from nodes.runtime.joining import Joined, JoinError
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
REJOIN_S = 30.0
"""Between two joins anew, where members no longer take the credential."""
ASKED_AT_ONCE = 4
CONTACTS_MAX = 32
"""Members asked for a table, the one that answered last first."""
_OUTDATED = frozenset(("credential_expired", "other_epoch", "old_epoch", "other_key"))
"""Words of a refused dial (`nodes.runtime.dial_errors`) after which only joining anew helps."""


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
        self._joined_s = 0.0

    async def run(self) -> None:
        """Join, then keep the table true until cancelled."""
        try:
            self._enter(await self._join())
        except (CannotJoin, JoinError) as error:
            self._host.cannot_go_on(f"This client reaches no mesh. {error}")
            return
        while True:
            self._wanted.clear()
            await self._refresh()
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

    async def _join(self) -> Joined:
        self._joined_s = time.monotonic()
        return await mesh_entry.join(self._found, self._options.join, Role.CLIENT, self._name)

    def _enter(self, joined: Joined) -> None:
        self._trust.enter(None, joined.credential)
        self._trust.add_records(joined.revocations, [])
        self._trust.on_change = self.transport.recheck
        contacts = mesh_entry.contacts_of(joined, self._options.join, self._trust.node_id)
        for contact in reversed(contacts):
            self._know(contact)

    async def _refresh(self) -> None:
        """Fetch the table from the first member that gives one; keep the old one where nobody does."""
        refusals: set[str] = set()
        known = [c for c in self._contacts.values() if not self._is_out(c)]
        # Whoever answered last alone, the others a few at a time: silent ones take their time.
        batches = [
            known[:1],
            *(known[n : n + ASKED_AT_ONCE] for n in range(1, len(known), ASKED_AT_ONCE)),
        ]
        for batch in batches:
            found = await self._first_of(batch, refusals)
            if found is not None:
                table, link = found
                self._take(table, link)
                await self._renew(link)
                return
        await self._nobody_answered(refusals)

    def _is_out(self, contact: Contact) -> bool:
        return contact.node_id is not None and self._trust.is_revoked(contact.node_id)

    async def _first_of(
        self, contacts: Sequence[Contact], refusals: set[str]
    ) -> tuple[ClientTable, Link] | None:
        """Return the first table that one of these gives; the words of those who refused are added."""
        asked = [asyncio.ensure_future(self._ask(contact)) for contact in contacts]
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    return await answer
                except (TableError, TimeoutError):
                    continue
                except DialError as error:
                    refusals |= set(error.codes.values())
            return None
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, contact: Contact) -> tuple[ClientTable, Link]:
        addresses = parsed_addresses(contact.addresses)
        link = await self.transport.dial(addresses, contact.node_id, DIAL_S)
        async with asyncio.timeout(client_table.TIMEOUT_S):
            return await client_table.fetch(link), link

    async def _nobody_answered(self, refusals: set[str]) -> None:
        """Say what can be done about it, and do it."""
        if "node_revoked" in refusals:
            self._host.cannot_go_on(
                "The mesh has removed this client. Start it again with a fresh invite token."
            )
        elif refusals & _OUTDATED and time.monotonic() - self._joined_s >= REJOIN_S:
            await self._join_anew()
        elif self.entered.is_set():
            log.warning(
                "No machine of the mesh gives its table; the last one is kept, trying again."
            )
            self._host.notice("alone", "No machine of the mesh answers; asking again.")
        else:
            self._host.cannot_go_on("This client reaches no machine of the mesh.")

    async def _join_anew(self) -> None:
        """The credential is good no more: the token may still be."""
        try:
            self._enter(await self._join())
        except CannotJoin as error:
            self._host.cannot_go_on(f"This client's credential has run out. {error}")
        except JoinError as error:
            log.warning("This client's credential has run out, and joining anew failed: %s", error)
        else:
            self._wanted.set()

    def _take(self, table: ClientTable, link: Link) -> None:
        self._trust.add_records(table.revocations, table.rotations)
        for view in reversed(table.hosts):
            self._know(Contact(view.node_id, view.announcement.addresses))
        self._know(Contact(link.peer_id, self._contacts[link.peer_id].addresses))
        self._host.driver.post(TableReceived(table.hosts))
        self._host.notice("alone", None)
        self.entered.set()

    def _know(self, contact: Contact) -> None:
        """Ask this member first from now on; of too many, the one not heard of for longest goes."""
        self._contacts.pop(contact.node_id, None)
        self._contacts = {contact.node_id: contact, **self._contacts}
        while len(self._contacts) > CONTACTS_MAX:
            self._contacts.popitem()

    async def _renew(self, link: Link) -> None:
        mine = self._trust.credential()
        left_s = mine.expires_s - time.time()
        if left_s < CLIENT_LIFETIME_S / 2 or mine.epoch < self._trust.epoch:
            await renewal.fetch(self._trust, link)
