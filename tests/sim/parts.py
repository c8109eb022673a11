"""What the simulated world is made of: its faults, its links, its processes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_effects import GossipEffect
from nodes.mesh.gossip_events import Contact, LinkId
from nodes.mesh.ids import NodeId


@dataclass
class Faults:
    """What the network does wrong, everywhere. Probabilities 0 to 1, times in seconds."""

    loss: float = 0.0
    delay_s: float = 0.001
    jitter_s: float = 0.001
    duplication: float = 0.0
    reordering: float = 0.0


class SimLink:
    __slots__ = ("a", "b", "number", "used_at")

    def __init__(self, number: int, a: "SimNode", b: "SimNode", now: float) -> None:
        self.number = LinkId(number)
        self.a = a
        self.b = b
        self.used_at = now

    def other(self, node: "SimNode") -> "SimNode":
        return self.b if node is self.a else self.a


class Core(Protocol):
    """What a simulated process runs: a `GossipNode`, or a whole node around one."""

    @property
    def deadline(self) -> float | None:
        """When to hand in `TimePassed`; None: only when something happens."""

    def handle(self, event: Any, now: float) -> list[Any]:
        """Return what is to be done about an event."""


class SimNode:
    """One process: what it runs, its links and what the rest of the node would have seen."""

    __slots__ = (
        "address",
        "alive",
        "backlog",
        "buried",
        "claimed",
        "contacts",
        "core",
        "died_at",
        "former",
        "gossip",
        "heard_of",
        "index",
        "left",
        "links",
        "name",
        "node_id",
        "notices",
        "paused_since",
        "paused_until",
        "rate",
        "requests",
        "revoked",
        "silent",
        "skew",
        "started_at",
        "story",
        "twin",
        "views",
        "wake",
    )  # fmt: skip

    def __init__(self, index: int, name: str, address: str, core: Core, gossip: GossipNode) -> None:
        self.index = index
        self.name = name
        self.address = address
        self.core = core
        self.gossip = gossip
        """The membership inside `core`, or `core` itself."""
        self.node_id = gossip.node_id
        self.claimed = {gossip.record.claim.incarnation}
        """The incarnations that this process has lived under."""
        self.former = (0, 0)
        self.alive = True
        self.left = False
        self.silent = False
        self.twin = False
        self.died_at = 0.0
        self.started_at = 0.0
        self.buried: dict[NodeId, float] = {}
        """Whom it published as dead or left, and when last."""
        self.paused_since = 0.0
        self.paused_until = 0.0
        self.skew = 0.0
        self.rate = 1.0
        self.wake = float("inf")
        self.links: dict[NodeId, SimLink] = {}
        self.backlog: list[Any] = []
        self.requests: dict[int, Callable[[bytes], None]] = {}
        self.contacts: tuple[Contact, ...] = ()
        """What it would find on its disk after a restart."""
        self.heard_of: set[NodeId] = set()
        """Whom it ever listed, or was told to dial: without one of these, two islands cannot meet."""
        self.notices: list[tuple[str, int, bytes]] = []
        self.revoked: set[NodeId] = set()
        """Whom its transport refuses; kept on disk too."""
        self.views: dict[NodeId, Any] = {}
        self.story: list[str] = []

    def stood_s(self, now: float) -> float:
        """For how long the latest pause has lasted, or did."""
        return min(now, self.paused_until) - self.paused_since

    def clock(self, now: float) -> float:
        return self.skew + now * self.rate


Observer = Callable[[SimNode, GossipEffect], None]
"""Told of every effect that a node asked for."""
