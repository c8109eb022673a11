"""Which links are open: kept to neighbours, opened on demand by requests, closed when unused.

The one writer of `Core.links`. The end with the lower id dials, the other waits a moment; failed dials
are repeated with backoff. A link's end counts only if it is the peer's current link: the end of one that
has been replaced says nothing. A link to a non-neighbour goes when the transport calls it idle. Source:
design.md (Transport), Rapid (neighbours), scenario 12.
"""

from collections.abc import Callable

from nodes.mesh import limits
from nodes.mesh.gossip_core import Core, Link
from nodes.mesh.gossip_effects import CloseLink, OpenLink
from nodes.mesh.gossip_events import Contact, DialFailed, LinkDown, LinkEnd, LinkIdle, LinkUp
from nodes.mesh.ids import NodeId

_SETTLE_S = 0.02


class _Pursuit:
    __slots__ = ("dialling_until", "next_at", "wait_s")

    def __init__(self, next_at: float, wait_s: float) -> None:
        self.next_at = next_at
        self.wait_s = wait_s
        self.dialling_until = 0.0


class Links:
    """The links of one node, and its pursuit of the neighbours that have none."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pursuits: dict[NodeId, _Pursuit] = {}
        self._pursuing = False
        self.on_up: Callable[[Link], None] = lambda link: None
        self.on_lost: Callable[[NodeId], None] = lambda node_id: None
        self.on_refused: Callable[[NodeId], None] = lambda node_id: None

    # --- what the transport tells ----------------------------------------

    def up(self, event: LinkUp) -> None:
        """A link is ready; it replaces an earlier one to the same peer."""
        core = self._core
        if event.peer in core.revoked:
            core.effects.append(CloseLink(event.peer, event.link, "revoked"))
            return
        link = Link(event.peer, event.link, event.address, event.dialled, core.now)
        before = core.links.get(event.peer)
        if before is not None:
            link.rtt_s, link.rtt_shown_s, link.load = before.rtt_s, before.rtt_shown_s, before.load
            link.rtt_least_s = before.rtt_least_s
        core.links[event.peer] = link
        if event.address:
            self._remember(event.peer, event.address)
        self._pursuits.pop(event.peer, None)
        self.on_up(link)

    def _remember(self, peer: NodeId, address: str) -> None:
        addresses = self._core.last_address
        addresses.pop(peer, None)
        addresses[peer] = address
        if len(addresses) > limits.MEMBERS_MAX:
            del addresses[next(iter(addresses))]

    def down(self, event: LinkDown) -> None:
        """A link ended; only the current one matters."""
        core = self._core
        link = core.links.get(event.peer)
        if link is None or link.link != event.link:
            return
        del core.links[event.peer]
        if event.peer in core.members:
            core.touch(event.peer)
        if event.reason is LinkEnd.LOST:
            self.on_lost(event.peer)
        self.pursue_soon()

    def idle(self, event: LinkIdle) -> None:
        """Close an unused link, unless it is one of those that are kept."""
        core = self._core
        link = core.links.get(event.peer)
        if link is None or link.link != event.link or event.peer in core.neighbours.current():
            return
        del core.links[event.peer]
        core.touch(event.peer)
        core.effects.append(CloseLink(event.peer, event.link, "idle"))

    def dial_failed(self, event: DialFailed) -> None:
        """A dial came to nothing; repeated with backoff while the peer is a neighbour."""
        node_id = event.contact.node_id
        if node_id is None:
            return
        pursuit = self._pursuits.get(node_id)
        if pursuit is not None:
            pursuit.dialling_until = 0.0
        if event.refused:
            self.on_refused(node_id)
        self.pursue_soon()

    # --- neighbours without a link ---------------------------------------

    def pursue_soon(self, _: NodeId | None = None) -> None:
        """The table or the links changed: look, once the change has settled, whom to dial."""
        if not self._pursuing:
            self._pursuing = True
            self._core.timers.at(self._core.now + _SETTLE_S, self._pursue)

    def _pursue(self, _: None) -> None:
        core = self._core
        self._pursuing = False
        if core.leaving:
            return
        missing = [p for p in sorted(core.neighbours.current()) if p not in core.links]
        self._pursuits = {p: v for p, v in self._pursuits.items() if p in missing}
        soonest = None
        for peer in missing:
            when = self._pursue_one(peer)
            soonest = when if soonest is None else min(soonest, when)
        if soonest is not None:
            self._pursuing = True
            core.timers.at(max(soonest, core.now + _SETTLE_S), self._pursue)

    def _pursue_one(self, peer: NodeId) -> float:
        core = self._core
        config = core.config
        pursuit = self._pursuits.get(peer)
        if pursuit is None:
            waits = 0.0 if core.self_id < peer else config.dial_yield_s
            pursuit = self._pursuits[peer] = _Pursuit(core.now + waits, config.redial_min_s)
        if core.now < pursuit.next_at or core.now < pursuit.dialling_until:
            return max(pursuit.next_at, pursuit.dialling_until)
        core.effects.append(OpenLink(core.contact(peer), config.dial_timeout_s))
        pursuit.dialling_until = core.now + config.dial_timeout_s
        pursuit.next_at = core.now + pursuit.wait_s * core.rng.uniform(0.8, 1.0)
        pursuit.wait_s = min(pursuit.wait_s * 2, config.redial_max_s)
        return max(pursuit.next_at, pursuit.dialling_until)

    def dial(self, contact: Contact) -> None:
        """Dial a contact, if there is no link to it yet."""
        if contact.node_id is None or contact.node_id not in self._core.links:
            self._core.effects.append(OpenLink(contact, self._core.config.dial_timeout_s))
