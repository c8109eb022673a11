"""The simulated network's links: dials, handshakes, ends, and what an unused link tells.

A dial is one reliable round trip to an address; both ends come up at the same moment. An id has one link
to another at any time; a newer one replaces it, as in the transport.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.mesh.gossip_effects import CloseLink, OpenLink
from nodes.mesh.gossip_events import Contact, DialFailed, LinkDown, LinkEnd, LinkIdle, LinkUp
from nodes.mesh.ids import NodeId
from tests.sim.parts import SimLink, SimNode

if TYPE_CHECKING:
    from tests.sim.network import Network

LOST_AFTER_S = 30.0
IDLE_AFTER_S = 60.0
Linked = Callable[[SimLink], None]
Failed = Callable[[bool], None]


class Links:
    """All links of one network."""

    def __init__(self, network: "Network") -> None:
        self._net = network
        self._last = 0

    def _target(self, contact: Contact) -> SimNode | None:
        for address in contact.addresses:
            node = self._net.by_address.get(address)
            if node is not None and contact.node_id in (None, node.node_id):
                return node
        return None

    def open(self, node: SimNode, effect: OpenLink) -> None:
        def failed(refused: bool) -> None:
            self._net.give(node, DialFailed(effect.contact, refused))

        self.dial(node, effect.contact, effect.timeout_s, lambda link: None, failed)

    def dial(self, node: SimNode, contact: Contact, timeout_s: float,
             done: Linked, failed: Failed, fresh: bool = False) -> None:  # fmt: skip
        """Call `done` with the link that is there (not so if `fresh`) or comes up, or `failed(refused)`."""
        net, target = self._net, self._target(contact)
        if not fresh and target is not None and target.node_id in node.links:
            done(node.links[target.node_id])
            return
        ends = net.now + timeout_s
        if target is None or target.node_id == node.node_id:
            net.at(ends, failed, False)
            return
        arrives = net.now + net.reliable_lag() + net.reliable_lag()
        if arrives > ends:
            net.at(ends, failed, False)
        else:
            net.at(arrives, self._handshake, node, target, ends, done, failed)

    def _handshake(self, node: SimNode, target: SimNode, ends: float,
                   done: Linked, failed: Failed) -> None:  # fmt: skip
        net = self._net
        target = net.by_address[target.address]
        both = net.reaches(node, target) and net.reaches(target, node)
        if node.alive and both and not target.alive and not target.silent:
            failed(True)
            return
        stands = net.now < target.paused_until
        if node.alive and both and target.alive and stands and target.paused_until < ends:
            net.at(target.paused_until, self._handshake, node, target, ends, done, failed)
        elif not (node.alive and both and target.alive) or stands:
            net.at(max(ends, net.now), failed, False)
        elif target.node_id in node.revoked or node.node_id in target.revoked:
            failed(False)
        else:
            self._connect(node, target, done)

    def _connect(self, node: SimNode, target: SimNode, done: Linked) -> None:
        net = self._net
        old = node.links.get(target.node_id)
        kept = old if target.links.get(node.node_id) is old else None
        if kept is not None and (kept.a.node_id <= node.node_id or node.node_id > target.node_id):
            done(kept)
            return
        self._last += 1
        link = SimLink(self._last, node, target, net.now)
        stale = [(n, p, n.links.get(p.node_id)) for n, p in ((node, target), (target, node))]
        node.links[target.node_id] = link
        target.links[node.node_id] = link
        net.give(target, LinkUp(node.node_id, link.number, False, node.address))
        net.give(node, LinkUp(target.node_id, link.number, True, target.address))
        for owner, peer, before in stale:
            if before is not None:
                self._end_stale(owner, peer, before)
        net.at(net.now + IDLE_AFTER_S, self._idle, link)
        done(link)

    def _end_stale(self, owner: SimNode, peer: SimNode, before: SimLink) -> None:
        """The end of a link that was replaced comes late; it may be another process's (a twin's)."""
        net = self._net
        down = LinkDown(peer.node_id, before.number, LinkEnd.LOST)
        net.at(net.now + 0.01, net.give, owner, down)
        far = before.other(owner)
        if far is not peer:
            net.at(net.now + 0.01, self.lose, far, owner.node_id, before, LinkEnd.LOST)

    def _idle(self, link: SimLink) -> None:
        net = self._net
        open_ends = [n for n in (link.a, link.b) if n.links.get(link.other(n).node_id) is link]
        for node in open_ends:
            if net.now - link.used_at >= IDLE_AFTER_S:
                net.give(node, LinkIdle(link.other(node).node_id, link.number))
        if open_ends:
            net.at(net.now + IDLE_AFTER_S, self._idle, link)

    def close(self, node: SimNode, effect: CloseLink) -> None:
        link = node.links.get(effect.peer)
        if link is None or link.number != effect.link:
            return
        del node.links[effect.peer]
        net, other = self._net, link.other(node)
        net.at(net.now + net.reliable_lag(), self._far_close, node, other, link)

    def _far_close(self, node: SimNode, other: SimNode, link: SimLink) -> None:
        net = self._net
        if net.reaches(node, other):
            self.lose(other, node.node_id, link, LinkEnd.CLOSED)
        else:
            net.at(net.now + LOST_AFTER_S, self.lose, other, node.node_id, link, LinkEnd.LOST)

    def lose(self, node: SimNode, peer: NodeId, link: SimLink, reason: LinkEnd) -> None:
        if node.alive and node.links.get(peer) is link:
            del node.links[peer]
            self._net.give(node, LinkDown(peer, link.number, reason))

    def cut_off(self, node: SimNode) -> None:
        """The process is gone: the other ends find out when nothing comes for long enough."""
        for peer, link in list(node.links.items()):
            other = link.other(node)
            self._net.at(
                self._net.now + LOST_AFTER_S, self.lose, other, node.node_id, link, LinkEnd.LOST
            )
            del node.links[peer]
