"""A router on each simulated node: it sends requests where its node's published views say.

It goes by `MemberView.state` and `rank_last` alone, as the real one does: ready members first, those that
are ranked last as a last resort, the dead never. A failed request is handed to gossip (`PeerUseFailed`)
and to the next candidate. Watched: nobody is sent to a death that it knows of, nor, a while after it was
confirmed by anyone, to one that it should know of.
"""

import random
from collections import Counter

from nodes.mesh.gossip_effects import MemberView
from nodes.mesh.gossip_events import PeerUseFailed
from nodes.mesh.ids import NodeId
from tests.sim.checkers import Checkers
from tests.sim.network import Network
from tests.sim.parts import SimNode

EVERY_S = 0.5
FIRST_BYTE_S = 2.0
LAST_RESORT_FIRST_BYTE_S = 0.5
TRIES_MAX = 3
KNOWN_AFTER_S = 4.0
"""From the first confirmation of a death to when nobody may choose that node first: flood, wait (0.5 s),
verification (1 s, pinned <= 3 s)."""


class Router:
    """The routers of all nodes."""

    def __init__(self, network: Network, checkers: Checkers, seed: int) -> None:
        self.count: Counter[str] = Counter()
        """``asked``, ``answered``, ``failed``, ``nobody``."""
        self._net = network
        self._checkers = checkers
        self._rng = random.Random(f"router {seed}")
        network.at(network.now + EVERY_S, self._round)

    def _round(self) -> None:
        net = self._net
        net.at(net.now + EVERY_S, self._round)
        for node in list(net.nodes.values()):
            if node.alive and net.now >= node.paused_until and node.node_id not in net.expelled:
                self._ask(node, frozenset())

    def _choose(self, node: SimNode, tried: frozenset[NodeId]) -> MemberView | None:
        """Return the best that was not tried, as the table stands now: a retry looks again."""
        views = [view for view in node.views.values() if view.node_id not in tried]
        self._rng.shuffle(views)
        return min(views, key=lambda view: view.rank_last, default=None)

    def _ask(self, node: SimNode, tried: frozenset[NodeId]) -> None:
        chosen = self._choose(node, tried)
        if chosen is None or len(tried) >= TRIES_MAX:
            self.count["nobody"] += 1
            return
        self.count["asked"] += 1
        self._check(node, chosen)
        target = self._net.nodes.get(chosen.node_id)
        limit_s = LAST_RESORT_FIRST_BYTE_S if chosen.rank_last else FIRST_BYTE_S
        lag = 2 * self._net.reliable_lag()
        if target is None or lag > limit_s or not self._there_and_back(node, target, limit_s):
            refused = target is not None and not target.alive and not target.silent
            wait_s = lag if refused and lag < limit_s else limit_s
            self._net.at(self._net.now + wait_s, self._failed, node, chosen.node_id, tried)
        else:
            self.count["answered"] += 1

    def _there_and_back(self, node: SimNode, target: SimNode, limit_s: float) -> bool:
        net = self._net
        both = net.reaches(node, target) and net.reaches(target, node)
        return target.alive and both and target.paused_until < net.now + limit_s

    def _failed(self, node: SimNode, peer: NodeId, tried: frozenset[NodeId]) -> None:
        self.count["failed"] += 1
        self._net.give(node, PeerUseFailed(peer))
        if node.alive:
            self._ask(node, tried | {peer})

    def _check(self, node: SimNode, view: MemberView) -> None:
        subject = self._net.nodes.get(view.node_id)
        if subject is None or subject.alive:
            return
        found = self._checkers.find
        buried_at = node.buried.get(view.node_id, -1.0)
        if buried_at > subject.died_at:
            found(f"routing: {node.name} sends to {subject.name}, which it buried itself")
        confirmed_at = self._checkers.confirmed.get(view.node_id)
        if confirmed_at is None or confirmed_at < subject.died_at or view.rank_last:
            return
        known_for = self._net.now - max(confirmed_at, node.started_at, node.paused_until)
        if known_for > KNOWN_AFTER_S and self._net.undisturbed_s() > KNOWN_AFTER_S:
            found(
                f"routing: {node.name} prefers {subject.name}, dead and known for {known_for:.1f} s"
            )
