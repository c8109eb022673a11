"""One API's routing without sockets: a table, fake hosts on other machines, and walks over them."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from nodes.mesh.ids import NodeId
from nodes.mesh.routing import RequestNeeds, RoutingTable, Upstream
from proxy.first_byte import FirstByteWatch
from proxy.openai import Fault
from proxy.router import Choice, Router
from proxy.upstream import OutboundRequest, UpstreamTrouble
from proxy.walk import Walk, Ways
from tests.fakes.peer_hosts import FakeHosts
from tests.nodes.mesh.routing_lab import ME, MODEL

REQUEST = OutboundRequest(b"POST", b"/v1/chat/completions", (), b"{}")
NEEDS = RequestNeeds(MODEL)


def no_silence(node_id: NodeId) -> float | None:
    return None


@dataclass
class Lab:
    """Routing with its parts in the open. Earlier hosts have more slots, so they are asked first."""

    hosts: list[Upstream]
    fakes: FakeHosts = field(default_factory=FakeHosts)
    failed: list[tuple[str, UpstreamTrouble]] = field(default_factory=list)
    seed: int = 1
    silence_s: Callable[[NodeId], float | None] = no_silence
    clock_s: float | None = None
    """A clock that stands until it is set; None: the real one."""

    def __post_init__(self) -> None:
        self.table = RoutingTable(ME, tuple(self.hosts))
        self.router = Router(lambda: self.table, self.now, random.Random(self.seed))
        self.ways = Ways(
            self.fakes,
            self.fakes,
            self.router,
            FirstByteWatch(lambda: self.table, self.silence_s),
            lambda node_id, trouble: self.failed.append((self.name(node_id), trouble)),
            retry_after_s=2,
        )

    def now(self) -> float:
        return time.monotonic() if self.clock_s is None else self.clock_s

    def name(self, node_id: NodeId) -> str:
        return next(u.name for u in self.hosts if u.node_id == node_id)

    def change(self, upstream: Upstream, **changes: Any) -> None:
        """Put a changed host into the table; the walk's own copy stays as it was."""
        rest = (u for u in self.table.upstreams if u.node_id != upstream.node_id)
        self.table = RoutingTable(ME, (replace(upstream, **changes), *rest))

    def remove(self, upstream: Upstream) -> None:
        """The host's node is dead, or gone."""
        rest = (u for u in self.table.upstreams if u.node_id != upstream.node_id)
        self.table = RoutingTable(ME, tuple(rest))

    def choose(self, body: bytes | None = None, needs: RequestNeeds = NEEDS) -> Choice:
        choice = self.router.choose(needs, body)
        assert isinstance(choice, Choice)
        return choice

    async def ask(self, body: bytes | None = None, needs: RequestNeeds = NEEDS) -> str:
        """Carry one request to its first bytes and let go; return the name of who answered."""
        walk = Walk(self.ways, self.choose(body, needs))
        try:
            answer, _ = await walk.open(REQUEST)
            answer.close()
            assert walk.upstream is not None
            return walk.upstream.name
        finally:
            walk.end()

    async def refused(self) -> tuple[Fault, Walk]:
        """Carry one request that nobody answers; return what the client is told."""
        walk = Walk(self.ways, self.choose())
        try:
            await walk.open(REQUEST)
        except Fault as fault:
            return fault, walk
        finally:
            walk.end()
        raise AssertionError("somebody answered")

    def in_flight(self) -> list[int]:
        return [self.router.hosts.of(u.key).in_flight for u in self.hosts]
