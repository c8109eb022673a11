"""Seeds from `WIDE_FROM` on: larger meshes, more that goes wrong, and routers that use what gossip says.

Beyond the ordinary swarm: up to 26 nodes, so that rings of neighbours matter; clocks that run fast or slow;
stalls that kill; notices, revocations and loads; requests that fail and report it.
"""

from collections.abc import Callable

from nodes.mesh.gossip_events import LoadChanged, NoticeIssued
from tests.sim.cluster import EPOCH_MS, Plant
from tests.sim.parts import Faults, SimNode
from tests.sim.router import Router
from tests.sim.swarm import Swarm

WIDE_FROM = 10_000
_ENDS_UNIX_S = EPOCH_MS // 1000 + 10**6


def swarm_of(seed: int, plant: Plant | None = None) -> Swarm:
    """Return the run of a seed."""
    return WideSwarm(seed, plant) if seed >= WIDE_FROM else Swarm(seed, plant)


class WideSwarm(Swarm):
    """The run of one wide seed."""

    SIZES = (3, 26)
    STEPS = 18

    def __init__(self, seed: int, plant: Plant | None = None, engine_bug: bool = False) -> None:
        super().__init__(seed, plant, engine_bug)
        self.router = Router(self.cluster.network, self.cluster.checkers, seed)
        self._notices = 0

    def draw_faults(self) -> Faults:
        """Return faults of a somewhat worse network."""
        rng = self._rng
        return Faults(
            loss=rng.choice((0.0, 0.01, 0.05, 0.1)),
            delay_s=rng.choice((0.0005, 0.005, 0.03)),
            jitter_s=rng.choice((0.0, 0.01, 0.03)),
            duplication=rng.choice((0.0, 0.1)),
            reordering=rng.choice((0.0, 0.2)),
        )

    def actions(self) -> list[Callable[[], str]]:
        """Return the ordinary ones and these."""
        more = [self._long_stall, self._drift, self._notice, self._load, self._load, self._revoke]
        return [*super().actions(), *more, self._machine_gone, self._back_at_once]

    def _some(self) -> SimNode:
        return self._rng.choice(self.cluster.nodes)

    def _long_stall(self) -> str:
        node, duration_s = self._some(), self._rng.uniform(2.5, 8.0)
        self.cluster.network.pause(node, duration_s)
        return f"stall {node.name} for {duration_s:.1f} s"

    def _drift(self) -> str:
        """Start a newcomer whose clock runs fast or slow."""
        name, self._next = f"n{self._next:04d}", self._next + 1
        rate = self._rng.choice((0.98, 0.999, 1.001, 1.02))
        self.cluster.restart(name, self._rng.uniform(0, 1000), rate=rate)
        return f"start {name} with a clock of rate {rate}"

    def _notice(self) -> str:
        node = self._some()
        self._notices += 1
        topic = f"drop/model-{self._rng.randint(1, 3)}"
        event = NoticeIssued(topic, self._notices, b"genuine", _ENDS_UNIX_S)
        self.cluster.network.give(node, event)
        return f"{node.name} issues {topic}"

    def _load(self) -> str:
        node = self._some()
        self.cluster.network.give(node, LoadChanged(self._rng.randbytes(40)))
        return f"{node.name} has another load"

    def _revoke(self) -> str:
        network, nodes = self.cluster.network, self.cluster.nodes
        if len(nodes) < 6 or len(network.expelled) > 1:
            return "nobody to revoke"
        subject, by = self._rng.sample(nodes, 2)
        # Who never met the mesh has nobody to tell (seed 10749): people revoke what they see.
        if by.node_id in network.expelled or subject.node_id not in by.views:
            return "nobody to revoke"
        network.revoke(by, subject.node_id)
        topic = f"revoke/{subject.node_id}"
        network.give(by, NoticeIssued(topic, 1, b"genuine", _ENDS_UNIX_S))
        return f"{by.name} revokes {subject.name}"

    def _machine_gone(self) -> str:
        """Several die silently at once, as behind one switch."""
        gone = self._rng.sample(self.cluster.nodes, max(1, len(self.cluster.nodes) // 4))
        if len(self.cluster.nodes) - len(gone) < 2:
            return "nobody to kill"
        for node in gone:
            self.cluster.network.kill(node, silent=True)
        return f"kill {', '.join(n.name for n in gone)} silently at once"

    def _back_at_once(self) -> str:
        """kill -9, and a supervisor that starts it again before anybody noticed."""
        if len(self.cluster.nodes) < 3:
            return "nobody to restart"
        node = self._some()
        self.cluster.network.kill(node)
        self.cluster.run(self._rng.choice((0.02, 0.15, 0.6)))
        self.cluster.restart(node.name, self._rng.choice((0.0, 300.0)))
        return f"kill {node.name} and start it again at once"
