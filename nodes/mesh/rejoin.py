"""Finding the way back: contacts while alone or never met, the dead now and then, returns only heard of.

A node without any link redials its contacts (tokens, last known peers) with backoff, at most 60 s apart
(scenario 12). So it does a contact that it never met, also while it has other links: those may be an
island, and whoever was named is perhaps the only bridge to the rest (simulator, seed 59). Every few
seconds one of the remembered dead is dialled, which heals partitions: gossip may not re-add the dead, so
somebody has to touch them. A later life that gossip reports is dialled after a random wait, so that a
restarted node is not met by everyone at once.
"""

from nodes.mesh import limits
from nodes.mesh.gossip_core import Core
from nodes.mesh.gossip_effects import RememberContacts
from nodes.mesh.gossip_events import Contact
from nodes.mesh.ids import NodeId
from nodes.mesh.links import Links
from nodes.mesh.records import Record

CONTACTS_MAX = 32
"""Contacts kept; the one named longest ago is forgotten first."""
_REMEMBER_AFTER_S = 5.0


class Rejoin:
    """Contacts, reconnects and returns of one node."""

    def __init__(self, core: Core, links: Links) -> None:
        self._core = core
        self._links = links
        self._contacts: dict[Contact, None] = {}
        self._wait_s = core.config.redial_min_s
        self._alone = False
        self._unmet: dict[NodeId, tuple[Contact, float]] = {}
        """Named, never linked since; with the time when it was named."""
        self._unmet_wait_s = core.config.redial_min_s
        self._seeking = False
        self._remembering = False
        self._returns: dict[NodeId, int] = {}
        self._reconnect_later()

    # --- alone -----------------------------------------------------------

    def join(self, contacts: tuple[Contact, ...]) -> None:
        """Dial these now, and again while there is no link. Their deaths are forgotten."""
        core = self._core
        for contact in contacts:
            if contact.node_id == core.self_id:
                continue
            self._contacts.pop(contact, None)
            self._contacts[contact] = None
            if contact.node_id is not None:
                core.dead.forget(contact.node_id)
                if contact.node_id not in core.links:
                    self._unmet[contact.node_id] = (contact, core.now)
        while len(self._contacts) > CONTACTS_MAX:
            del self._contacts[next(iter(self._contacts))]
        while len(self._unmet) > CONTACTS_MAX:
            del self._unmet[next(iter(self._unmet))]
        self._wait_s = self._unmet_wait_s = core.config.redial_min_s
        self._dial_all()
        self.check_alone()
        self._seek_later()

    # --- named and never met ---------------------------------------------

    def met(self, node_id: NodeId) -> None:
        """There was a link to this node."""
        self._unmet.pop(node_id, None)

    def forget(self, node_id: NodeId) -> None:
        """This node was revoked: it is dialled no more."""
        self._unmet.pop(node_id, None)
        self._contacts = {c: None for c in self._contacts if c.node_id != node_id}

    def _seek_later(self) -> None:
        core = self._core
        if self._unmet and not self._seeking:
            self._seeking = True
            core.timers.at(core.now + self._unmet_wait_s * core.rng.uniform(0.8, 1.0), self._seek)

    def _seek(self, _: None) -> None:
        core = self._core
        self._seeking = False
        if core.leaving:
            return
        oldest = core.now - core.config.dead_expiry_s
        self._unmet = {i: (c, at) for i, (c, at) in self._unmet.items() if at > oldest}
        if core.links:  # a node that is alone dials them all anyway
            for contact, _at in self._unmet.values():
                self._links.dial(contact)
        self._unmet_wait_s = min(self._unmet_wait_s * 2, core.config.redial_max_s)
        self._seek_later()

    # --- alone, again ----------------------------------------------------

    def check_alone(self, _: NodeId | None = None) -> None:
        """A link came or went: start or stop redialling."""
        core = self._core
        if core.links:
            self._wait_s = core.config.redial_min_s
        elif not self._alone and (self._contacts or core.members or len(core.dead)):
            self._alone = True
            core.timers.at(core.now + self._wait_s * core.rng.uniform(0.8, 1.0), self._redial)

    def _redial(self, _: None) -> None:
        core = self._core
        self._alone = False
        if core.links or core.leaving:
            return
        self._wait_s = min(self._wait_s * 2, core.config.redial_max_s)
        self._dial_all()
        self.check_alone()

    def _dial_all(self) -> None:
        """Contacts first, then a few of those that were known."""
        core = self._core
        for contact in self._contacts:
            self._links.dial(contact)
        known = sorted(core.members)
        for node_id in core.rng.sample(known, min(len(known), 3)):
            self._links.dial(core.contact(node_id))

    def remember_soon(self, _: NodeId | None = None) -> None:
        """The table changed: note, in a moment, where the mesh is."""
        if not self._remembering:
            self._remembering = True
            self._core.timers.at(self._core.now + _REMEMBER_AFTER_S, self._remember)

    def _remember(self, _: None) -> None:
        core = self._core
        self._remembering = False
        linked = [p for p in core.links if p in core.members]
        others = [p for p in sorted(core.neighbours.current()) if p not in core.links]
        contacts = tuple(core.contact(p) for p in (linked + others)[:CONTACTS_MAX])
        if contacts:
            core.effects.append(RememberContacts(contacts))

    # --- the dead --------------------------------------------------------

    def _reconnect_later(self) -> None:
        core = self._core
        wait = core.config.reconnect_interval_s * core.rng.uniform(0.5, 1.5)
        core.timers.at(core.now + wait, self._reconnect)

    def _reconnect(self, _: None) -> None:
        core = self._core
        self._reconnect_later()
        if not len(core.dead) or core.leaving:
            return
        dead = [d for d in core.dead.entries() if not d.left]
        if dead:
            self._links.dial(core.contact(core.rng.choice(dead).record.node_id))

    def claimed_return(self, record: Record) -> None:
        """A later life of one of the dead was heard of, signed: prove it by a dial."""
        core, node_id = self._core, record.node_id
        incarnation = record.claim.incarnation
        if (
            self._returns.get(node_id, -1) >= incarnation
            or len(self._returns) >= limits.MEMBERS_MAX
        ):
            return
        self._returns[node_id] = incarnation
        spread = min(10.0, core.config.return_spread_s * core.size)
        addresses = record.body.announcement.addresses
        last = core.last_address.get(node_id)
        contact = Contact(
            node_id, addresses if last in (None, *addresses) else (last or "", *addresses)
        )
        core.timers.at(core.now + core.rng.uniform(0.0, spread), self._check_return, contact)

    def _check_return(self, contact: Contact) -> None:
        assert contact.node_id is not None
        self._returns.pop(contact.node_id, None)
        if contact.node_id in self._core.dead and not self._core.leaving:
            self._links.dial(contact)
