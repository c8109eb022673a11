"""Whole nodes with engines that are not real: they load for a while, exit when told, crash on demand.

Everything else is the real core: `MeshNode` with serving, gossip, election and assignment, over the
seeded network. `Engines` checks every start: there must be a reason for it.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from nodes.mesh.announcement import Announcement
from nodes.mesh.drains import accept_drain
from nodes.mesh.effects import (
    LeaveAndExit,
    RecordEvent,
    ResolveModel,
    StartServer,
    StartWorker,
    StopServer,
    StopWorker,
)
from nodes.mesh.events import (
    AddressesChanged,
    AnswersFinished,
    CatalogueKnown,
    DiskScanned,
    EngineFound,
    ModelRefused,
    ModelResolving,
    ModelsAskedFor,
    ModelWanted,
    ResourcesSampled,
    ServerExited,
    ServerReady,
    StopRequested,
    WorkerExited,
    WorkerReady,
)
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_effects import PublishMembers
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.node import MeshNode
from nodes.mesh.placement import ServingOptions
from nodes.mesh.plans import ServerPlan, WorkerPlan
from nodes.mesh.reconcile import RunState
from nodes.mesh.routing import match_name
from nodes.mesh.tombstones import accept_drop
from tests.nodes.mesh.facts import ENGINE, ME, machine, model
from tests.sim.cluster import Birth, Cluster
from tests.sim.identities import node_id_of
from tests.sim.parts import Core, Faults, SimNode

GB = 1_000_000_000


@dataclass(frozen=True)
class Box:
    """A machine and the flags that its node is started with. Sizes in decimal GB."""

    memory: float = 16.0
    own: tuple[str, ...] = ()
    """`--model`s: the first is to be served, the others are wishes to the mesh."""
    disk: dict[str, float] = field(default_factory=dict)
    catalogue: dict[str, float] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    """Models whose files turn out to be unusable."""
    options: ServingOptions = field(default_factory=ServingOptions)


class Unwatched(MeshNode):
    """A node without viewers and requests: a thousand in one process cannot all draw their tables."""

    def _differences(self, now: float, *, urgent: bool) -> list[Any]:
        return []


class Whole:
    """A `MeshNode` as a process; `quiet`: its table is not worked out for the checkers (large meshes)."""

    def __init__(self, node: MeshNode, quiet: bool) -> None:
        self.node = node
        self._quiet = quiet

    @property
    def deadline(self) -> float | None:
        return self.node.deadline

    def handle(self, event: Any, now: float) -> list[Any]:
        effects: list[Any] = self.node.handle(event, now)
        return [*effects, PublishMembers(())] if self._quiet else effects


class Engines:
    """The shell of all nodes: resolves names and runs engines, and wants a reason for every start."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.starts: Counter[tuple[str, str]] = Counter()
        """(node, model)."""
        self._terms: set[tuple[str, str, int]] = set()
        self._spread_before: dict[tuple[str, str], bool] = {}
        self._allowed: Counter[tuple[int, str]] = Counter()
        self.told: list[tuple[float, str, RecordEvent]] = []
        self.findings: list[str] = []
        self.load_s = 1.0
        self.end_s = 0.05

    def carry(self, node: SimNode, effect: Any) -> None:
        """Carry out what a node asked for."""
        network = self._world.network
        match effect:
            case StartServer(plan):
                self._start(node, plan)
            case StartWorker(plan):
                network.at(network.now + 0.1, self._worker_ready, node, plan.run_id)
            case StopWorker(run_id):
                network.at(network.now + 0.05, self.end_worker, node, run_id, True)
            case StopServer(run_id):
                self._stopped(node, run_id)
                network.at(network.now + self.end_s, self._exit, node, run_id, True)
            case ResolveModel(name, download):
                network.at(network.now + 0.1, self._resolve, node, str(name), download)
            case RecordEvent():
                self.told.append((network.now, node.name, effect))
                node.story.append(f"{network.now:9.3f}  {effect.kind:12s} {effect.text}")
            case LeaveAndExit():
                node.left = True
                network.kill(node)

    def allow(self, node: SimNode, name: str) -> None:
        """There is a reason for one more start."""
        self._allowed[id(node), name] += 1

    def _start(self, node: SimNode, plan: ServerPlan) -> None:
        network, run_id, name = self._world.network, plan.run_id, str(plan.model.name)
        self.starts[node.name, name] += 1
        if lends(node):
            self.findings.append(
                f"{network.now:.3f} {node.name} starts {name} and lends its memory"
            )
        if plan.split is not None:
            self._start_split(node, plan)
            return
        if self._spread_before.pop((node.name, name), False):
            self.allow(node, name)  # Alone again after a split.
        self._allowed[id(node), name] -= 1
        if self._allowed[id(node), name] < 0:
            self.findings.append(f"{network.now:.3f} {node.name} started {name} for no reason")
        network.at(network.now + self.load_s, self._ready, node, run_id)

    def _start_split(self, node: SimNode, plan: ServerPlan) -> None:
        """A split's engine starts once in its term, and aborts at once where a worker is not there."""
        assert plan.split is not None
        network, name = self._world.network, str(plan.model.name)
        key = (node.name, name, plan.split.term)
        if key in self._terms:
            self.findings.append(f"{network.now:.3f} {node.name} started {name} twice in one term")
        self._terms.add(key)
        self._spread_before[node.name, name] = True
        if self._reaches_all(node, plan):
            network.at(network.now + self.load_s, self._ready, node, plan.run_id)
        else:
            lost = ServerExited(plan.run_id, -6, "it lost its split.", False)
            network.at(network.now + 0.1, network.give, node, lost)

    def _stopped(self, node: SimNode, run_id: RunId) -> None:
        """An engine that gives way to a split, here or elsewhere, may start again when that is over."""
        serving = mesh_node(node).serving
        found = serving.run_of(run_id)
        if found and found[1].plan.split is None and serving.directives.get(found[0]) is not None:
            self.allow(node, str(found[0]))

    def _reaches_all(self, host: SimNode, plan: ServerPlan) -> bool:
        """Return whether each worker has an rpc-server that admits this host in this term."""
        assert plan.split is not None
        nodes = {node_id_of(n.name): n for n in self._world.cluster.nodes}
        for seat in plan.split.workers:
            worker = nodes.get(seat.node_id)
            lent = lends(worker) if worker is not None and worker.alive else None
            if lent is None or (lent.host, lent.term) != (node_id_of(host.name), plan.split.term):
                return False
        return True

    def _worker_ready(self, node: SimNode, run_id: RunId) -> None:
        lent = lends(node) if node.alive else None
        if lent is not None and lent.run_id == run_id:
            self._world.network.give(node, WorkerReady(run_id, 50052, 4243))

    def end_worker(self, node: SimNode, run_id: RunId, asked: bool = False) -> None:
        """End an rpc-server. The engine over it notices nothing until it is used, as the real one."""
        lent = lends(node) if node.alive else None
        if lent is not None and lent.run_id == run_id:
            self._world.network.give(node, WorkerExited(run_id, "it crashed.", asked))

    def use(self, host: SimNode, name: str) -> None:
        """Send a request to a split: its engine aborts where a worker is gone."""
        run = mesh_node(host).serving.slots[ModelName(name)].run
        if run is not None and run.plan.split is not None and not self._reaches_all(host, run.plan):
            self._world.network.give(
                host, ServerExited(run.plan.run_id, -6, "it lost its split.", False)
            )

    def _ready(self, node: SimNode, run_id: RunId) -> None:
        if self._runs(node, run_id):
            ready = ServerReady(run_id, "127.0.0.1", 40000, 4242, 4, 4096, self.load_s)
            self._world.network.give(node, ready)

    def _exit(self, node: SimNode, run_id: RunId, asked: bool) -> None:
        found = self._runs(node, run_id)
        if found is None:
            return
        if not asked:
            self.allow(node, found)  # An engine that was told to end is started again by nobody.
        reason = "it was stopped." if asked else "it crashed."
        self._world.network.give(node, ServerExited(run_id, 0, reason, asked))

    def _runs(self, node: SimNode, run_id: RunId) -> str | None:
        found = mesh_node(node).serving.run_of(run_id) if node.alive else None
        return str(found[0]) if found else None

    def crash(self, node: SimNode, name: str) -> None:
        """End the engine of a model by itself."""
        run = mesh_node(node).serving.slots[ModelName(name)].run
        assert run is not None
        self._exit(node, run.plan.run_id, False)

    def _resolve(self, node: SimNode, asked: str, download: bool) -> None:
        box = self._world.boxes[node.name]
        held = match_name(asked, box.disk)
        give = self._world.network.give
        if len(held) == 1 and held[0] not in box.broken:
            self.allow(node, held[0])
            give(node, ModelWanted(facts(held[0], box), None, ModelName(asked), for_mesh=True))
        elif download and asked in box.catalogue and asked not in box.broken:
            self._world.boxes[node.name] = replace(
                box, disk={**box.disk, asked: box.catalogue[asked]}
            )
            give(node, ModelResolving(ModelName(asked), "downloading", 0, 100))
            later = self._world.network.now + 5.0
            self._world.network.at(later, self._resolve, node, asked, False)
        else:
            give(node, ModelRefused(ModelName(asked), f"{asked} is broken.", for_mesh=True))


def facts(name: str, box: Box) -> Any:
    """Return a model's facts by its size on this box."""
    return model(name, int(box.disk[name] * GB))


def lends(node: SimNode) -> WorkerPlan | None:
    """Return what a process lends to another's split."""
    return mesh_node(node).duties.works_for


def mesh_node(node: SimNode) -> MeshNode:
    """Return the core of a process."""
    core: Any = node.core
    found: MeshNode = core.node
    return found


class World:
    """Nodes that are started, told, killed and looked at."""

    def __init__(self, seed: int, faults: Faults | None = None, quiet: bool = False) -> None:
        self.boxes: dict[str, Box] = {}
        self._quiet = quiet
        self.cluster = Cluster(0, seed, faults, warm=False, make=self._make)
        self.network = self.cluster.network
        self.engines = Engines(self)
        self.network.on_other = self.engines.carry
        if quiet:
            self.network.observers.clear()

    def _make(self, birth: Birth) -> tuple[Core, GossipNode]:
        me = replace(
            ME, node_id=node_id_of(birth.name), name=birth.name, mesh_id="",
            started_at=birth.incarnation // 1000,
        )  # fmt: skip
        plain = birth.identity
        judge = replace(
            plain,
            accept_notice=lambda *shown: (
                plain.accept_notice(*shown)
                or accept_drop(plain, *shown)
                or accept_drain(plain, *shown)
            ),
        )
        made_by = Unwatched if self._quiet else MeshNode
        node = made_by(me, self.boxes[birth.name].options)
        made: list[GossipNode] = []

        def make(said: Announcement) -> GossipNode:
            made.append(
                GossipNode(judge, said, birth.incarnation, birth.config, birth.rng, birth.now)
            )
            return made[0]

        node.handle(AddressesChanged(birth.announcement.addresses), birth.now)
        node.enter_mesh(make, "cd" * 16, 7842, birth.now)
        return Whole(node, self._quiet), made[0]

    def start(self, name: str, box: Box | None = None, join: bool = True) -> SimNode:
        """Start a node, as the shell does it: models looked for at once, the mesh meanwhile."""
        if box is not None:
            self.boxes[name] = box
        box = self.boxes[name]
        node = self.cluster.start(name)
        give = self.network.give
        for own in box.own[:1]:
            give(node, ModelResolving(ModelName(own), "looking"))
        give(node, ModelsAskedFor(tuple(ModelName(n) for n in box.own[1:])))
        give(node, CatalogueKnown({ModelName(n): int(s * GB) for n, s in box.catalogue.items()}))
        give(node, ResourcesSampled(machine(int(box.memory * GB))))
        give(node, DiskScanned(tuple(facts(n, box) for n in sorted(box.disk))))
        self.network.at(self.network.now + 0.1, give, node, EngineFound(ENGINE))
        for own in box.own[:1]:
            self.network.at(self.network.now + 0.05, self.want, node, own)
        others = [n for n in self.cluster.nodes if n is not node]
        if join and others:
            self.network.at(self.network.now + 0.02, self.cluster.join, node, others)
        return node

    def want(self, node: SimNode, name: str) -> None:
        """The operator of a node asks it to serve a model."""
        if name not in mesh_node(node).serving.wanted:
            self.engines.allow(node, name)
        self.network.give(
            node, ModelWanted(facts(name, self.boxes[node.name]), None, ModelName(name))
        )

    def stop(self, node: SimNode) -> None:
        """SIGTERM for a node that answers nobody."""
        self.network.give(node, StopRequested("bye"))
        self.network.give(node, AnswersFinished())

    def scan(self, node: SimNode, disk: dict[str, float]) -> None:
        """Put these models onto a node's disk, beside none."""
        box = self.boxes[node.name] = replace(self.boxes[node.name], disk=disk)
        self.network.give(node, DiskScanned(tuple(facts(n, box) for n in sorted(box.disk))))

    def run(self, duration_s: float) -> None:
        self.network.run(duration_s)

    # --- what is seen ----------------------------------------------------------------------------

    def hosts(self, name: str, *, ready: bool = True) -> list[str]:
        """Return the nodes whose engine runs a model now, by name."""
        found = []
        for node in self.cluster.nodes:
            slot = mesh_node(node).serving.slots.get(ModelName(name))
            if slot is None or slot.run is None or slot.run.state is RunState.STOPPING:
                continue
            if slot.run.state is RunState.READY or not ready:
                found.append(node.name)
        return sorted(found)

    def warm(self, node: SimNode) -> set[str]:
        """Return what `/v1/models` of a node lists."""
        return {str(name) for name in mesh_node(node).routes.served_names()}

    def texts(self, node_name: str, kind: str) -> list[str]:
        """Return what a node told of one kind."""
        return [e.text for _, name, e in self.engines.told if name == node_name and e.kind == kind]

    def until(self, done: Any, limit_s: float) -> float:
        """Run until `done()`; return the seconds it took. Fails with every node's story."""
        took = self.network.run_until(done, limit_s)
        assert took is not None, self.cluster.stories()
        return float(took)
