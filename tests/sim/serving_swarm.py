"""One seed, one story of a mesh that serves: random machines, random faults, checked throughout.

What must hold: every engine start has a reason; nobody keeps a second copy that was taken up for one need;
when things have come to rest, nothing that somebody could serve is unserved, and everybody routes to
exactly the engines that are ready.
"""

import random
from collections.abc import Callable

from nodes.mesh.assignment import matching
from nodes.mesh.causes import Cause
from nodes.mesh.events import DropRequested
from nodes.mesh.ids import ModelName
from nodes.mesh.offers import MeshSnapshot, offer_of
from nodes.mesh.reconcile import RunState
from tests.sim.parts import Faults, SimNode
from tests.sim.serving_world import Box, World, mesh_node

MODELS = ("A", "B", "C", "D")
STEPS = 12
SWEEP_S = 0.5
TWICE_S = 6.0
"""Two that took up the same need see each other within gossip's second, settle for two and drain."""
APART_S = 25.0
"""So long after a fault of the network a view may still be wrong: suspicion, its end, and the way back."""


class ServingSwarm:
    """The run of one seed."""

    REST_S = 120.0

    def __init__(self, seed: int, size: int | None = None) -> None:
        self.seed = seed
        self._rng = rng = random.Random(f"serving swarm {seed}")
        faults = Faults(
            loss=rng.choice((0.0, 0.01, 0.05)),
            delay_s=rng.choice((0.0005, 0.005, 0.02)),
            jitter_s=rng.choice((0.001, 0.01)),
            duplication=rng.choice((0.0, 0.05)),
            reordering=rng.choice((0.0, 0.1)),
        )
        self.world = World(seed, faults)
        self.world.engines.load_s = rng.choice((0.2, 1.0, 4.0))
        self._steps: list[str] = [str(faults)]
        self._next = 0
        self._disturbed_s = 0.0
        self._twice: dict[str, float] = {}
        self.findings: list[str] = []
        for _ in range(size or rng.randint(3, 9)):
            self._steps.append(self._newcomer())
            self.world.run(rng.choice((0.0, 0.5, 3.0)))
        self.world.network.at(self.world.network.now + SWEEP_S, self._sweep)

    def run(self) -> list[str]:
        """Play it; return the findings."""
        world, rng = self.world, self._rng
        world.run(10)
        actions = self.actions()
        for _ in range(STEPS):
            # A drop can send everybody home: then somebody comes back.
            action = rng.choice(actions) if world.cluster.nodes else self._restart
            told = action()
            self._steps.append(f"{world.network.now:8.3f}  {told}")
            world.run(rng.choice((0.3, 1.0, 3.0, 8.0, 15.0)))
        self._heal()
        world.run(self.REST_S)
        self._settle()
        return [*self.findings, *world.engines.findings]

    def actions(self) -> list[Callable[[], str]]:
        """Return what may happen, the usual more often."""
        return [
            self._kill, self._kill, self._restart, self._restart, self._newcomer, self._stall,
            self._partition, self._stop, self._drop, self._load, self._crash,
        ]  # fmt: skip

    def report(self) -> str:
        """Return what was done, what was found, and each node's story."""
        findings = "\n".join([*self.findings, *self.world.engines.findings]) or "nothing found"
        steps = "\n".join(self._steps)
        return f"serving seed {self.seed}\n{steps}\n{self.world.cluster.stories()}\n{findings}"

    # --- faults ----------------------------------------------------------------------------------

    def _any(self) -> SimNode:
        return self._rng.choice(self.world.cluster.nodes)

    def _newcomer(self) -> str:
        rng = self._rng
        name, self._next = f"n{self._next:04d}", self._next + 1
        held = rng.sample(MODELS, rng.randint(0, 3))
        own: tuple[str, ...] = ()
        if held and (name == "n0000" or rng.random() < 0.3):
            own = (held[0], *rng.sample(MODELS, rng.randint(0, 2)))
        box = Box(
            memory=rng.choice((4.0, 16.0)),
            own=own,
            disk={m: 2.0 * (1 + MODELS.index(m)) for m in held},
            catalogue={"D": 8.0},
            broken=frozenset(rng.sample(MODELS, 1))
            if not own and rng.random() < 0.2
            else frozenset(),
        )
        self.world.start(name, box)
        self._disturb()
        return f"start {name}: {box}"

    def _disturb(self) -> None:
        self._disturbed_s = self.world.network.now

    def _kill(self) -> str:
        if len(self.world.cluster.nodes) < 3:
            return "nobody to kill"
        node, silent = self._any(), self._rng.random() < 0.5
        self.world.network.kill(node, silent)
        self._disturb()
        return f"kill {node.name}{' silently' if silent else ''}"

    def _restart(self) -> str:
        gone = sorted({n.name for n in self.world.network.nodes.values() if not n.alive})
        if not gone:
            return "nobody to restart"
        name = self._rng.choice(gone)
        self.world.start(name)
        self._disturb()
        return f"restart {name}"

    def _stall(self) -> str:
        node, duration_s = self._any(), self._rng.uniform(0.2, 1.5)
        self.world.network.pause(node, duration_s)
        self._disturb()
        return f"stall {node.name} for {duration_s:.1f} s"

    def _partition(self) -> str:
        nodes = list(self.world.cluster.nodes)
        self._rng.shuffle(nodes)
        cut = self._rng.randint(1, max(1, len(nodes) - 1))
        self.world.cluster.partition(nodes[:cut], nodes[cut:])
        until = self.world.network.now + self._rng.uniform(1, 30)
        self.world.network.at(until, self._heal)
        return f"partition {[n.name for n in nodes[:cut]]} of {len(nodes)}"

    def _heal(self) -> None:
        cluster = self.world.cluster
        cluster.heal()
        self._disturb()
        # Two sides that never met know nothing of each other: an operator joins them.
        for node in cluster.nodes[1:]:
            cluster.join(node, [n for n in cluster.nodes if n is not node])

    def _stop(self) -> str:
        if len(self.world.cluster.nodes) < 3:
            return "nobody to stop"
        node = self._any()
        self.world.stop(node)
        return f"{node.name} is stopped"

    def _drop(self) -> str:
        if len(self.world.cluster.nodes) < 3:
            return "nobody to drop at"
        node, name = self._any(), self._rng.choice(MODELS)
        self.world.network.give(node, DropRequested(ModelName(name), leave_after=True))
        return f"{node.name} drops {name}"

    def _load(self) -> str:
        node = self._any()
        disk = self.world.boxes[node.name].disk
        if not disk:
            return "nothing to load"
        name = self._rng.choice(sorted(disk))
        self.world.want(node, name)
        return f"{node.name} is asked to load {name}"

    def _crash(self) -> str:
        node = self._any()
        running = [n for n, s in mesh_node(node).serving.slots.items() if s.run is not None]
        if not running:
            return "nothing to crash"
        self.world.engines.crash(node, running[0])
        return f"{running[0]} of {node.name} crashes"

    # --- what must hold ----------------------------------------------------------------------------

    def _find(self, text: str) -> None:
        self.findings.append(f"{self.world.network.now:.3f} {text}")

    def _sweep(self) -> None:
        network = self.world.network
        network.at(network.now + SWEEP_S, self._sweep)
        calm = not network.sides and network.now - self._disturbed_s > APART_S
        for name in MODELS:
            takers = [n.name for n in self.world.cluster.nodes if _took_up(n, name)]
            if len(takers) < 2 or not calm:
                self._twice.pop(name, None)
            elif network.now - self._twice.setdefault(name, network.now) > TWICE_S:
                self._find(f"{name} was taken up by {takers} for one need")
                self._twice[name] = network.now + 1000
        for node in self.world.cluster.nodes:
            serving = mesh_node(node).serving
            run = [
                n
                for n, s in serving.slots.items()
                if s.run and s.run.state is not RunState.STOPPING
            ]
            if len(run) > 1:
                self._find(f"{node.name} runs {run} at once")

    def _settle(self) -> None:
        nodes = self.world.cluster.nodes
        offers = {n.node_id: offer_of(n.node_id, mesh_node(n).announcement()) for n in nodes}
        truth = {
            (n.node_id, name)
            for n in nodes
            for name, slot in mesh_node(n).serving.slots.items()
            if slot.run is not None and slot.run.state is RunState.READY
        }
        for node in nodes:
            core = mesh_node(node)
            seen = core.duties.snapshot(node.clock(self.world.network.now))
            me = node.node_id
            if {i: o.lines for i, o in seen.offers.items() if i != me} != {
                i: o.lines for i, o in offers.items() if i != me
            }:
                self._find(f"{node.name} does not see everybody as they are")
            true = MeshSnapshot(node.node_id, offers, seen.lost, seen.dropped, seen.catalogue)
            if node.node_id in matching(true):
                self._find(f"{node.name} leaves {matching(true)[node.node_id].model} lying")
            routed = {(u.node_id, u.model) for u in core.routes.ready()}
            if routed != truth:
                self._find(f"{node.name} routes to {routed ^ truth} wrongly")


def _took_up(node: SimNode, name: str) -> bool:
    serving = mesh_node(node).serving
    slot = serving.slots.get(ModelName(name))
    return (
        serving.causes.get(ModelName(name)) is Cause.NEEDED and slot is not None and bool(slot.run)
    )
