"""The original's four historical bugs, put back on purpose: the simulator must find each.

Each plant takes a healthy `GossipNode` and breaks one rule inside it. Nothing of this is in the product.
"""

from typing import Any

from nodes.mesh.dead_peers import DeadPeers
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_events import LinkDown, LinkEnd
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import Claim
from nodes.mesh.records import Record


class _ForgetfulDeadPeers(DeadPeers):
    """Remembers nobody, so whoever still lists a dead peer hands it back by gossip."""

    def add(self, record: Record, now: float, farewell: Claim | None = None) -> None:
        """Forget at once."""


def gossip_readds_the_dead(node: GossipNode) -> None:
    """Bug 1: there is no memory of the dead, and hearsay is taken for a fact."""
    node._core.dead = _ForgetfulDeadPeers(0.0)


def stale_end_removes_replacement(node: GossipNode) -> None:
    """Bug 2: a link's end removes whatever link the peer has now."""
    links: Any = node._links

    def down(event: LinkDown) -> None:
        links._core.links.pop(event.peer, None)
        if event.reason is LinkEnd.LOST:
            links.on_lost(event.peer)

    links.down = down


def stalled_observer_kills(node: GossipNode) -> None:
    """Bug 3: the observer trusts its own clock: no stall is noticed, no round trip precedes a death."""
    suspicions: Any = node._suspicions

    def verify(node_id: NodeId, suspicion: Any) -> None:
        suspicion.unreachable = True
        suspicions._set_timer(node_id, suspicion, suspicion.deadline)

    def due(node_id: NodeId) -> None:
        suspicion = suspicions.suspects.get(node_id)
        if suspicion is not None and suspicions._core.now >= suspicion.deadline:
            suspicions._die(node_id, suspicion)
        elif suspicion is not None:
            verify(node_id, suspicion)

    suspicions._due = due
    broken: Any = node
    broken._stalled = lambda late_s: None
