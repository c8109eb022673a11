"""The node's side of the mesh: its place in it, its links, its tokens; wired to the core by the driver.

Begins a mesh or joins one, listens, hands the core its gossip half and carries out what the core wants
of the network. Decides nothing about members: that is the core's.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Mapping

from meshsite import mesh_entry
from meshsite.mesh_entry import CannotJoin, Standing
from meshsite.options import Options
from meshsite.side import Host, Side
from meshsite.version import VERSION
from nodes.mesh import config
from nodes.mesh.announcement import Announcement
from nodes.mesh.drains import accept_drain
from nodes.mesh.effects import LinkEffect
from nodes.mesh.events import AddressesChanged
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_effects import PublishNotice, RememberContacts
from nodes.mesh.gossip_events import (
    Contact,
    CredentialRenewed,
    JoinRequested,
    NoticeIssued,
    PeerUseFailed,
)
from nodes.mesh.ids import NodeId
from nodes.mesh.records import NodeIdentity
from nodes.mesh.tombstones import accept_drop
from nodes.runtime import (
    bind_port,
    client_table,
    contacts_file,
    doctor,
    identity,
    key_handover,
    mesh_key,
    renewal,
    trust_file,
    trust_notices,
)
from nodes.runtime.address import Address
from nodes.runtime.approvals import Approvals
from nodes.runtime.credentials import Role
from nodes.runtime.join_desk import JoinDesk
from nodes.runtime.join_messages import KnownMember
from nodes.runtime.joining import Joined, JoinError
from nodes.runtime.link import Link
from nodes.runtime.links import PeerLinks, StreamHandler
from nodes.runtime.own_addresses import own_addresses
from nodes.runtime.private_file import PrivateFileError
from nodes.runtime.streams import Stream
from nodes.runtime.tasks import TaskSet
from nodes.runtime.token import InviteToken
from nodes.runtime.token_errors import NodeRevokedError
from nodes.runtime.token_ledger import TokenLedger, TokenLedgerError, TokenRecord
from nodes.runtime.transport import Transport
from nodes.runtime.trust import Trust
from nodes.runtime.trust_file import TrustFileError

log = logging.getLogger("mesh.node")

ADDRESSES_PERIOD_S = 10.0
"""How often the machine's own addresses are looked at: a laptop changes its network."""
NOTICE_LIFETIME_S = 30 * 86_400
"""How long a word about trust is spread: as long as the longest credential lives."""
RECORDS_LIFETIME_S = 7 * 86_400


class MeshSide(Side):
    """A full member's place in a mesh."""

    def __init__(
        self,
        found: Standing,
        options: Options,
        name: str,
        host: Host,
        bound: bind_port.BoundPort,
        handlers: Mapping[str, StreamHandler] | None = None,
    ) -> None:
        """`handlers` serve further kinds of streams, such as requests.

        Raises:
            TokenLedgerError, TrustFileError: a file of the home cannot be used.
        """
        super().__init__(host)
        self._found = found
        self._options = options
        self._name = name
        self._bound = bound
        self._config = config.PROFILES[options.network]()
        self.ledger = TokenLedger(found.home)
        self.approvals = Approvals(
            options.approve, lambda: host.waiting_changed(self.approvals.waiting())
        )
        self.trust = Trust(found.who, found.key or mesh_key.new_mesh())
        if found.home is not None:
            trust_file.load(found.home, self.trust)
        self._links = PeerLinks(
            self._host.driver.post,
            self._config.link_idle_s,
            {
                key_handover.KEY_KIND: self._give_key,
                renewal.RENEW_KIND: self._renew,
                doctor.DOCTOR_KIND: doctor.answer,
                client_table.TABLE_KIND: self._give_table,
                **(handlers or {}),
            },
            on_twin=self._twin_seen,
        )
        desk = JoinDesk(
            self.trust,
            self.ledger,
            self._known_members,
            approve=self.approvals.ask,
            on_redeemed=self._redeemed,
        )
        self.transport = Transport(
            self.trust, self._links, software=VERSION, join_handler=desk.serve
        )
        self._links.attach(self.transport)
        self.trust.on_change = self._trust_changed
        self.on_standing: Callable[[], None] = lambda: None
        """Called when this node's credential, or whom it admits, has changed."""
        self._started_s = time.monotonic()
        self._tasks = TaskSet()
        self._credential = b""
        """The one that gossip carries."""

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Come into a mesh, then keep addresses and credentials true until cancelled."""
        await self.transport.listen(self._bound.sock)
        tokens = self._options.join
        if mesh_entry.already_in(self._found, tokens):
            self._enter(mesh_entry.known_contacts(self._found, tokens))
        else:
            await self._come_in()
        while True:
            await asyncio.sleep(ADDRESSES_PERIOD_S)
            self._tell_addresses()
            self._tell_credential()

    async def close(self) -> None:
        """Give up what is under way and close all links."""
        await self._tasks.cancel()
        await self._links.close()
        await self.transport.close()

    async def _come_in(self) -> None:
        """Join by a token. Where nobody answers: begin alone, and go on trying."""
        wait_s, longest_s = mesh_entry.RETRY_S
        while True:
            try:
                joined = await mesh_entry.join(
                    self._found, self._options.join, Role.MEMBER, self._name
                )
            except CannotJoin as error:
                self._host.cannot_go_on(str(error))
                return
            except JoinError as error:
                self._go_alone(mesh_entry.why_later(error))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, longest_s)
                continue
            self._joined(joined)
            return

    def _go_alone(self, why: str) -> None:
        if self.alone_because != why:
            self.alone_because = why
            log.warning("Going on alone. %s Trying again until then.", why)
            self._host.notice("alone", f"This node is alone. {why} It keeps trying.")
        if not self.entered.is_set():
            self._enter(())

    def _joined(self, joined: Joined) -> None:
        assert joined.mesh_key is not None, "a full member is given the mesh's key"
        self.trust.enter(joined.mesh_key, joined.credential)
        self.trust.add_records(joined.revocations, [])
        self.alone_because = ""
        self._host.notice("alone", None)
        self._enter(mesh_entry.contacts_of(joined, self._options.join, self.trust.node_id))

    def _enter(self, contacts: tuple[Contact, ...]) -> None:
        """Be in the mesh of `trust` from now on, and dial its machines."""
        self._keep_key()
        driver = self._host.driver
        driver.enter_mesh(self._gossip_node, self.trust.mesh_id, self._bound.port)
        self._tell_addresses()
        if contacts:
            # Kept at once: a machine that is off again in a moment must find back, too.
            self.remember(RememberContacts(contacts))
            driver.post(JoinRequested(contacts))
        self.entered.set()

    def _gossip_node(self, announcement: Announcement) -> GossipNode:
        trust = self.trust
        self._credential = trust.credential().encode()

        def accept_notice(topic: str, version: int, body: bytes) -> bool:
            return (
                trust_notices.accept_notice(trust, topic, version, body)
                or accept_drop(judge, topic, version, body)
                or accept_drain(judge, topic, version, body)
            )

        judge = NodeIdentity(
            public_key=trust.identity.public_key,
            credential=self._credential,
            boot=os.urandom(8),
            sign=trust.identity.sign,
            # The core has content before signature, `identity.verify` the other way round.
            verify=lambda key, content, signature: identity.verify(key, signature, content),
            accept_member=lambda *shown: trust_notices.accept_member(trust, *shown),
            accept_notice=accept_notice,
        )
        rng = random.Random(os.urandom(16))  # noqa: S311 - spreads timers, protects nothing
        unix_ms = int(time.time() * 1000)
        return GossipNode(judge, announcement, unix_ms, self._config, rng, time.monotonic())

    def _tell_addresses(self) -> None:
        found = own_addresses(self._bound.port, self._options.bind_ip)
        addresses = tuple(str(address) for address in found)
        driver = self._host.driver
        if addresses != driver.node.own.addresses:
            driver.post(AddressesChanged(addresses))

    def _tell_credential(self) -> None:
        """A member signs itself a new credential well before the old one ends: others must see it."""
        credential = self.trust.credential().encode()
        if self.entered.is_set() and credential != self._credential:
            self._credential = credential
            self._host.driver.post(CredentialRenewed(credential))
            self.on_standing()

    # --- what the core wants ----------------------------------------------------------------------

    def perform(self, effect: LinkEffect) -> None:
        """Carry out what the core wants of the network."""
        self._links.perform(effect)

    def remember(self, effect: RememberContacts) -> None:
        """Keep where the mesh was seen, over a restart."""
        if self._found.home is None:
            return
        try:
            contacts_file.save(self._found.home, self.trust.mesh_id, effect.contacts)
        except PrivateFileError as error:
            log.warning("%s", error)

    def noticed(self, notice: PublishNotice) -> None:
        """Take over an accepted word about trust."""
        try:
            trust_notices.apply_notice(self.trust, self.ledger, notice.topic, notice.body)
        except TokenLedgerError as error:
            log.error("%s", error)
        kind, _, subject = notice.topic.partition("/")
        if kind == "revoke":
            self._revoked(NodeId(subject))
        elif kind == "epoch":
            self._tasks.spawn(self._fetch_key())

    def _revoked(self, node_id: NodeId) -> None:
        if node_id == self.trust.node_id:
            self._host.notice("revoked", f"{NodeRevokedError()}")
        else:
            self._links.peer_revoked(node_id)

    async def _fetch_key(self) -> None:
        """After a rotation: get the mesh's new key from any member, as long as it takes."""
        wait_s, longest_s = mesh_entry.RETRY_S
        while self.trust.mesh_key is not None and self.trust.mesh_key.epoch < self.trust.epoch:
            for link in tuple(self.transport.links.values()):
                if link.is_up and await key_handover.fetch(self.trust, link):
                    self._keep_key()
                    return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, longest_s)

    def _keep_key(self) -> None:
        if self._found.home is not None and self.trust.mesh_key is not None:
            mesh_key.save(self._found.home, self.trust.mesh_key)

    def _twin_seen(self, node_id: NodeId, text: str) -> None:
        """The transport met one key in two processes: this node's own, or another node's."""
        if node_id == self.trust.node_id:
            self.twin(text)
            return
        view = self._host.driver.node.members.get(node_id)
        name = view.announcement.name if view else node_id[:8]
        log.warning("Two running processes use the key of %s: stop one of the two.", name)

    def twin(self, text: str) -> None:
        """Another process uses this node's key: the later one of the two gives way."""
        self._host.notice("twin", f"{text[:1].upper()}{text[1:]}.")
        if time.monotonic() - self._started_s < self._config.twin_grace_s:
            self._host.cannot_go_on(f"This node gives way: {text}.")

    def use_failed(self, node_id: NodeId) -> None:
        """A request found the way to a node broken: gossip verifies its life at once."""
        self._host.driver.post(PeerUseFailed(node_id))

    # --- tokens and trust -------------------------------------------------------------------------

    def invite_token(self) -> str:
        """Return the start-up token: any machine that has it may join until it expires."""
        key = self.trust.mesh_key
        if key is None or not self.entered.is_set():
            return ""
        return self.ledger.start_up_token(key, self.trust.node_id, self.addresses()).encode()

    def new_token(
        self, lifetime_s: float, uses: int | None, clients_only: bool, label: str
    ) -> InviteToken:
        """Return a fresh token. Raises: TokenLedgerError, ValueError (see `TokenLedger.issue`)."""
        key = self.trust.mesh_key
        assert key is not None
        return self.ledger.issue(
            key, self.trust.node_id, self.addresses(), lifetime_s=lifetime_s, max_uses=uses,
            clients_only=clients_only, label=label,
        )  # fmt: skip

    def addresses(self) -> tuple[Address, ...]:
        """Return where this machine can be dialled, as tokens carry it."""
        return own_addresses(self._bound.port, self._options.bind_ip)

    def tell(self, topic: str, version: int, body: bytes, lifetime_s: float) -> None:
        """Let every member know something that is no member's own."""
        ends_s = int(time.time() + lifetime_s)
        self._host.driver.post(NoticeIssued(topic, version, body, ends_s))

    def revoke(self, node_id: NodeId) -> None:
        """Withdraw a node's membership, here and everywhere."""
        record = self.trust.revoke(node_id)
        self.tell(*trust_notices.revocation_notice(record), NOTICE_LIFETIME_S)
        self._links.peer_revoked(node_id)

    def rotate(self) -> None:
        """Give the mesh a new key: every invite token of before ends, members fetch the new one."""
        record = self.trust.rotate()
        self._keep_key()
        self.tell(*trust_notices.rotation_notice(record), NOTICE_LIFETIME_S)

    def revoke_token(self, token_id: str) -> TokenRecord | None:
        """Take a token back, here and everywhere; None: there is none of that id."""
        record = self.ledger.revoke(token_id)
        key = self.trust.mesh_key
        if record is not None and key is not None:
            notice = trust_notices.token_notice(key, record, None, time.time())
            self.tell(*notice, RECORDS_LIFETIME_S)
        return record

    def _redeemed(self, record: TokenRecord, node_id: NodeId) -> None:
        key = self.trust.mesh_key
        if record.max_uses is not None and key is not None:
            notice = trust_notices.token_notice(key, record, node_id, time.time())
            self.tell(*notice, RECORDS_LIFETIME_S)

    def _known_members(self) -> tuple[KnownMember, ...]:
        members = [
            KnownMember(view.node_id, view.announcement.addresses)
            for view in self._host.driver.node.members.present()
        ]
        own = tuple(str(address) for address in self.addresses())
        return (KnownMember(self.trust.node_id, own), *members)

    def _trust_changed(self) -> None:
        self.transport.recheck()
        self.on_standing()
        if self._found.home is not None:
            try:
                trust_file.save(self._found.home, self.trust)
            except TrustFileError as error:
                log.error("%s", error)

    async def _give_key(self, link: Link, stream: Stream) -> None:
        await key_handover.give(self.trust, link, stream)

    async def _give_table(self, link: Link, stream: Stream) -> None:
        """Give a client what this node knows; of the client nothing is kept."""
        node = self._host.driver.node
        content = client_table.encode(self.trust, node.announcement(), node.members.present())
        await client_table.give(stream, content)

    async def _renew(self, link: Link, stream: Stream) -> None:
        await renewal.give(self.trust, link, stream)
