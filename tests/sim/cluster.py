"""A mesh inside the simulated network: nodes are started, joined, killed, restarted, paused and cut off."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from nodes.mesh.announcement import Announcement, ModelOnDiskLine, ServedModelLine
from nodes.mesh.config import GossipConfig, lan
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_events import AnnouncementChanged, Contact, JoinRequested, LeaveRequested
from nodes.mesh.ids import NodeId
from nodes.mesh.records import NodeIdentity
from tests.sim.checkers import Checkers
from tests.sim.identities import identity, node_id_of
from tests.sim.network import Network
from tests.sim.parts import Core, Faults, SimNode

Plant = Callable[[GossipNode], None]
EPOCH_MS = 1_790_000_000_000


def announcement(name: str, address: str, memory_gb: int, models: int = 0) -> Announcement:
    return Announcement(
        name=name,
        addresses=(address,),
        software="0.1.0",
        memory_bytes=memory_gb * 10**9,
        serving=(
            ServedModelLine("Qwen2.5-3B-Instruct-Q4_K_M", "ready", 4, 8192, ("chat", "tools")),
        ),
        on_disk=tuple(
            ModelOnDiskLine(f"Some-Model-{i}-Q4_K_M", 4 * 10**9, "0123abcd", 4_197, 32)
            for i in range(models)
        ),
    )


@dataclass(frozen=True)
class Birth:
    """What a process starts with."""

    name: str
    life: int
    """0 for the first process under this name's key."""
    identity: NodeIdentity
    announcement: Announcement
    incarnation: int
    config: GossipConfig
    rng: random.Random
    now: float


Make = Callable[[Birth], tuple[Core, GossipNode]]
"""Builds what a process runs, and says which `GossipNode` is inside it."""


def bare(birth: Birth) -> tuple[Core, GossipNode]:
    """Return a process that is membership and nothing else."""
    gossip = GossipNode(
        birth.identity, birth.announcement, birth.incarnation, birth.config, birth.rng, birth.now
    )
    return gossip, gossip


class Cluster:
    """`size` nodes, checked all the time. `plant` breaks each node on purpose."""

    def __init__(self, size: int, seed: int, faults: Faults | None = None,
                 config: GossipConfig | None = None, plant: Plant | None = None, engine_bug: bool = False,
                 warm: bool = True, make: Make = bare, models: int = 0) -> None:  # fmt: skip
        self.network = Network(seed, faults)
        self.rng = random.Random(f"cluster {seed}")
        self.config = config or lan()
        self._plant = plant
        self._make = make
        self._models = models
        """On each node's disk."""
        self._lives: dict[str, int] = {}
        self.checkers = Checkers(self.network, engine_bug)
        for i in range(size):
            self.start(f"n{i:04d}")
        if warm:
            self._warm()
        else:
            self.join_all()

    @property
    def nodes(self) -> list[SimNode]:
        """The processes that run, in order of their names."""
        return [n for n in self.network.nodes.values() if n.alive]

    def node(self, name: str) -> SimNode:
        return next(n for n in self.network.nodes.values() if n.name == name)

    def start(self, name: str, skew_s: float = 0.0, wall_error_s: float = 0.0,
              port: int = 7842, rate: float = 1.0) -> SimNode:  # fmt: skip
        """Start a process; of a name that ran before: with the same key, as a new life.

        `skew_s` shifts its monotonic clock and `rate` is its speed; `wall_error_s` is how wrong the Unix time
        is that its incarnation starts from.
        Another `port` than that of a life that still runs makes a twin of it.
        """
        life = self._lives[name] = self._lives.get(name, -1) + 1
        index = int(name[1:])
        address = f"10.{index >> 8}.{index & 255}.1:{port}"
        incarnation = EPOCH_MS + int((self.network.now + wall_error_s) * 1000) + life
        before = self.network.nodes.get(node_id_of(name))
        revoked = before.revoked if before is not None else set()
        contacts = before.contacts if before is not None else ()
        core, gossip = self._make(
            Birth(
                name,
                life,
                identity(name, life, revoked),
                announcement(name, address, 8 + index % 5, self._models),
                incarnation,
                self.config,
                random.Random(f"{self.network.seed} {name} {life}"),
                self.network.now * rate + skew_s,
            )
        )
        if self._plant is not None:
            self._plant(gossip)
        node = SimNode(index, name, address, core, gossip)
        node.skew, node.rate = skew_s, rate
        node.revoked, node.contacts = revoked, contacts
        self.network.add(node)
        return node

    def _warm(self) -> None:
        records = [n.gossip.record for n in self.nodes]
        for node in self.nodes:
            node.gossip.restore(records)
            self.network.give(node, JoinRequested(()))

    def join_all(self, stagger_s: float = 0.05) -> None:
        for i, node in enumerate(self.nodes[1:], 1):
            self.network.at(self.network.now + i * stagger_s, self.join, node)

    def join(self, node: SimNode, through: Iterable[SimNode] = ()) -> None:
        targets = tuple(through) or (self.nodes[0],)
        if targets == (node,):
            targets = (self.nodes[-1],)
        named = tuple(Contact(t.node_id, (t.address,)) for t in targets)
        node.heard_of.update(c.node_id for c in (*node.contacts, *named) if c.node_id is not None)
        self.network.give(node, JoinRequested((*node.contacts, *named)))

    def restart(self, name: str, skew_s: float = 0.0, wall_error_s: float = 0.0,
                rate: float = 1.0) -> SimNode:  # fmt: skip
        """Start a process (again), and let it join through any member that runs."""
        node = self.start(name, skew_s, wall_error_s, rate=rate)
        others = [n for n in self.nodes if n is not node and n.node_id not in self.network.expelled]
        if others:
            self.join(node, [self.rng.choice(others)])
        return node

    def leave(self, node: SimNode) -> None:
        """Stop as whole nodes do: the models are given back and the node leaves in one breath."""
        said = node.gossip.record.body.announcement
        bare = AnnouncementChanged(msgspec.structs.replace(said, serving=()))
        self.network.give(node, bare)
        self.network.give(node, LeaveRequested())

    def partition(self, *sides: Iterable[SimNode]) -> None:
        self.network.sides = {n.index: number for number, side in enumerate(sides) for n in side}
        self.network.healed_at = self.network.now  # some pairs may just have been reunited

    def heal(self) -> None:
        self.network.sides = {}
        self.network.cut.clear()
        self.network.healed_at = self.network.now

    def run(self, duration_s: float) -> None:
        self.network.run(duration_s)

    def converged(self) -> bool:
        """Every running node lists exactly the other running nodes, none of them suspect, equal words."""
        orders = {n.node_id: n.gossip.record.order for n in self.nodes}
        return all(self._agrees(node, orders) for node in self.nodes)

    def _agrees(self, node: SimNode, orders: dict[NodeId, tuple[int, int]]) -> bool:
        views = node.gossip.members()
        if len(views) != len(orders) - 1:
            return False
        return all(
            orders.get(v.node_id) == (v.incarnation, v.version) and v.state == "alive"
            for v in views
        )

    def knows_dead(self, node_id: NodeId) -> int:
        """How many running nodes no longer list this one."""
        return sum(node_id not in n.views for n in self.nodes)

    def stories(self) -> str:
        lines = []
        for node in self.network.nodes.values():
            lines.append(
                f"--- {node.name} {node.node_id[:12]} {'running' if node.alive else 'gone'}"
            )
            lines.extend(node.story[-60:])
        return "\n".join(lines)
