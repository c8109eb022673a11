"""One seed, one story: a small mesh, a random network and a random run of faults, checked throughout."""

import random
from collections import Counter
from collections.abc import Callable

import msgspec

from nodes.mesh.gossip_events import AnnouncementChanged
from tests.sim.cluster import Cluster, Plant
from tests.sim.parts import Faults

REST_S = 100.0


class Swarm:
    """The run of one seed. `plant` and `engine_bug` break the nodes on purpose."""

    SIZES = (3, 9)
    STEPS = 12

    def __init__(self, seed: int, plant: Plant | None = None, engine_bug: bool = False) -> None:
        self.seed = seed
        self._rng = rng = random.Random(f"swarm {seed}")
        faults = self.draw_faults()
        size = rng.randint(*self.SIZES)
        self.cluster = Cluster(size, seed, faults, plant=plant, engine_bug=engine_bug, warm=False)
        self._next = size
        self._steps: list[str] = [f"{size} nodes, {faults}"]
        self.happened: Counter[str] = Counter()
        """Named faults and how often each was done."""
        for name in ("loss", "delay_s", "jitter_s", "duplication", "reordering"):
            self.happened[name] += getattr(faults, name) > 0

    def draw_faults(self) -> Faults:
        """Return what the network does wrong all along."""
        rng = self._rng
        return Faults(
            loss=rng.choice((0.0, 0.01, 0.05)),
            delay_s=rng.choice((0.0005, 0.005, 0.02)),
            jitter_s=rng.choice((0.001, 0.01)),
            duplication=rng.choice((0.0, 0.05)),
            reordering=rng.choice((0.0, 0.1)),
        )

    def actions(self) -> list[Callable[[], str]]:
        """Return what may happen; twice as often where it is there twice."""
        return [
            self._kill, self._kill, self._restart, self._restart, self._newcomer, self._stall,
            self._stall, self._partition, self._one_way, self._leave, self._change,
        ]  # fmt: skip

    def run(self) -> list[str]:
        """Play it; return the findings."""
        cluster, rng = self.cluster, self._rng
        cluster.run(10)
        actions = self.actions()
        for _ in range(self.STEPS):
            action = rng.choice(actions)
            told = action()
            self.happened[action.__name__.strip("_")] += not told.startswith("nobody")
            self._steps.append(f"{cluster.network.now:8.3f}  {told}")
            cluster.run(rng.choice((0.3, 1.0, 3.0, 8.0, 15.0)))
        cluster.heal()
        cluster.run(REST_S)
        return cluster.checkers.settle()

    def report(self) -> str:
        """Return what was done, what was found, and each node's story."""
        findings = "\n".join(self.cluster.checkers.findings) or "nothing found"
        steps = "\n".join(self._steps)
        trace = self.cluster.network.trace
        return (
            f"seed {self.seed} (replay: make sim SEED={self.seed}), trace {trace:08x}\n"
            f"{steps}\n{self.cluster.stories()}\n{findings}"
        )

    # --- faults ----------------------------------------------------------------

    def _kill(self) -> str:
        if len(self.cluster.nodes) < 3:
            return "nobody to kill"
        node, silent = self._rng.choice(self.cluster.nodes), self._rng.random() < 0.5
        self.cluster.network.kill(node, silent)
        return f"kill {node.name}{' silently' if silent else ''}"

    def _restart(self) -> str:
        gone = [n for n in self.cluster.network.nodes.values() if not n.alive]
        if not gone:
            return "nobody to restart"
        name, wall = self._rng.choice(gone).name, self._rng.choice((0.0, 0.0, -3600.0))
        self.cluster.restart(name, self._rng.choice((0.0, 500.0)), wall)
        return f"restart {name} with the same key, clock off by {wall} s"

    def _newcomer(self) -> str:
        name, self._next = f"n{self._next:04d}", self._next + 1
        self.cluster.restart(name, self._rng.uniform(0, 1000))
        return f"start {name} with a fresh key"

    def _stall(self) -> str:
        node = self._rng.choice(self.cluster.nodes)
        duration_s = self._rng.uniform(0.2, 1.5)
        self.cluster.network.pause(node, duration_s)
        return f"stall {node.name} for {duration_s:.1f} s"

    def _partition(self) -> str:
        nodes = list(self.cluster.nodes)
        self._rng.shuffle(nodes)
        cut = self._rng.randint(1, max(1, len(nodes) - 1))
        self.cluster.partition(nodes[:cut], nodes[cut:])
        self.cluster.network.at(
            self.cluster.network.now + self._rng.uniform(1, 30), self.cluster.heal
        )
        return f"partition {cut} of {len(nodes)}"

    def _one_way(self) -> str:
        a, b = self._rng.choice(self.cluster.nodes), self._rng.choice(self.cluster.nodes)
        self.cluster.network.cut.add((a.index, b.index))
        return f"{a.name} reaches {b.name} no more, one way"

    def _leave(self) -> str:
        if len(self.cluster.nodes) < 3:
            return "nobody to leave"
        node = self._rng.choice(self.cluster.nodes)
        self.cluster.leave(node)
        return f"{node.name} leaves"

    def _change(self) -> str:
        node = self._rng.choice(self.cluster.nodes)
        old = node.gossip.record.body.announcement
        new = msgspec.structs.replace(old, memory_bytes=self._rng.randint(1, 64) * 10**9)
        self.cluster.network.give(node, AnnouncementChanged(new))
        return f"{node.name} offers other memory"
