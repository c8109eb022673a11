"""A refused port is evidence, not silence: the machine is there and says that the process is not.

One refusal starts a second probe of the same address; if that is refused too, with no answered probe in
between, the death needs no suspicion time. So soon after a proof of life as an answer may be late, it is
only a reason to ask again. It counts only for the address over which this node last had a
link (another of the peer's addresses may belong to a different machine, such as a container's bridge).
Source: RFC 1122 section 3.2.2.1 (port unreachable); pinned 11 (<= 2 s where the machine answers).
"""

from nodes.mesh import limits
from nodes.mesh.gossip_core import Core
from nodes.mesh.gossip_effects import ProbePort
from nodes.mesh.ids import NodeId
from nodes.mesh.membership import Membership


class PortEvidence:
    """First refusals that wait for their confirmation."""

    def __init__(self, core: Core, membership: Membership) -> None:
        self._core = core
        self._membership = membership
        self._first: dict[NodeId, float] = {}

    def probe(self, node_id: NodeId) -> None:
        """Ask the peer's machine whether the port is open, at the last address that worked."""
        address = self._core.last_address.get(node_id)
        if address is not None and node_id in self._core.members:
            self._core.effects.append(ProbePort(node_id, address))

    def refused(self, node_id: NodeId, address: str | None) -> None:
        """A refusal arrived. `address` None: every address that was dialled refused."""
        core = self._core
        if node_id not in core.members:
            return
        if address is not None and address != core.last_address.get(node_id):
            return
        link = core.links.get(node_id)
        if link is not None and core.now - link.acked_at < core.config.port_grace_s:
            # It lived a moment ago: perhaps a late answer about the life before (seed 10130). Ask again.
            core.timers.at(link.acked_at + core.config.port_grace_s, self.probe, node_id)
            return
        first = self._first.get(node_id)
        stale = first is None or core.now - first > core.config.port_window_s
        if stale or first is None or (link is not None and link.acked_at > first):
            self._begin(node_id)
        elif core.now - first >= core.config.port_confirm_s * 0.9:
            self._membership.die(node_id, "its machine says that the port is closed", refused=True)

    def _begin(self, node_id: NodeId) -> None:
        core = self._core
        if len(self._first) >= limits.MEMBERS_MAX:
            self._first.pop(next(iter(self._first)))
        self._first[node_id] = core.now
        core.timers.at(core.now + core.config.port_confirm_s, self.probe, node_id)

    def gone(self, node_id: NodeId) -> None:
        """Forget what was seen of a member that is no longer in the table, or lives anew."""
        self._first.pop(node_id, None)
