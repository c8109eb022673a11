"""Who is asked for one request, in which order: the shell around `nodes.mesh.routing*`.

Owns what routing needs beside the table: live figures, past turns, the clock and the dice. With one host
there is nothing to choose, and nothing is looked up: the answer of the last time is taken again.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.routing import (
    Candidates,
    HostKey,
    Refusal,
    RequestNeeds,
    RoutingTable,
    Upstream,
    candidates,
)
from nodes.mesh.routing_affinity import Affinity
from nodes.mesh.routing_live import Figures, LiveHosts
from nodes.mesh.routing_order import Place, Reason, order
from proxy.conversation import Conversation, conversation

ROUTES_REMEMBERED_MAX = 256
"""Routing answers kept for one table; names that clients make up must not pile up."""
_NUMBER_BITS = 64


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is to answer one request."""

    model: ModelName
    places: tuple[Place, ...]
    """Who is asked, in this order. Never empty."""
    hosts: int
    """How many serve the model; more than `places` where not all may be tried."""
    key: bytes | None = None
    """By which the conversation's next turn finds the host of this one; None: it has none."""


class Router:
    """Chooses the hosts of requests, and keeps what it needs for that."""

    def __init__(
        self,
        routes: Callable[[], RoutingTable],
        clock: Callable[[], float] = time.monotonic,
        dice: random.Random | None = None,
    ) -> None:
        """`routes` returns the table of now; `clock` and `dice` are given by tests."""
        self.now = clock
        self.hosts = LiveHosts()
        self._routes = routes
        self._affinity = Affinity()
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._table: RoutingTable | None = None
        self._ready: frozenset[HostKey] = frozenset()
        self._found: dict[RequestNeeds, Candidates | Refusal | Choice] = {}

    def choose(self, needs: RequestNeeds, body: bytes | None) -> Choice | Refusal:
        """Return who may answer, or why nobody can. `body` None: it holds no conversation."""
        found = self._find(needs)
        if isinstance(found, Choice):
            return self._only(found, body)
        if isinstance(found, Refusal):
            return found
        now = self.now()
        told = conversation(body, found.model) if body is not None else None
        places = order(
            found,
            partial(self._figures, now),
            self.hosts.broken(now),
            self._last_host(found, told, now),
            self._dice.getrandbits(_NUMBER_BITS),
        )
        return Choice(found.model, places, len(found.upstreams), told.key if told else None)

    def answered(self, choice: Choice, node_id: NodeId) -> None:
        """Remember who answered, for the conversation's next turn."""
        if choice.key is not None:
            self._affinity.keep(choice.key, node_id, self.now())

    def _only(self, choice: Choice, body: bytes | None) -> Choice:
        """Return the choice of the only host, with the conversation's key if others had turns before.

        Else a conversation that fled here would return, with its host, to a memory that has gone cold.
        """
        if body is None or not len(self._affinity):
            return choice
        told = conversation(body, choice.model)
        return replace(choice, key=told.key) if told is not None else choice

    def _find(self, needs: RequestNeeds) -> Candidates | Refusal | Choice:
        """Return what the table says, remembered while it is the same: most requests ask alike."""
        table = self._routes()
        if table is not self._table:
            self._take(table)
        if len(self._found) >= ROUTES_REMEMBERED_MAX:
            self._found.clear()
        found = self._found.get(needs)
        if found is None:
            found = self._found[needs] = _sole(candidates(table, needs))
        return found

    def _take(self, table: RoutingTable) -> None:
        """Take a new table; a host that is in it again begins without its past."""
        ready = frozenset(upstream.key for upstream in table.ready())
        for key in ready - self._ready:
            self.hosts.came_back(key)
        self._table, self._ready = table, ready
        self._found.clear()

    def _figures(self, now: float, upstream: Upstream) -> Figures:
        return self.hosts.of(upstream.key).figures(upstream, now)

    def _last_host(self, found: Candidates, told: Conversation | None, now: float) -> NodeId | None:
        if told is None or not told.earlier:
            return None
        return self._affinity.find(told.earlier, {u.node_id for u in found.upstreams}, now)


def _sole(found: Candidates | Refusal) -> Candidates | Refusal | Choice:
    """Return the choice where there is nothing to choose between."""
    if isinstance(found, Refusal) or len(found.upstreams) > 1:
        return found
    return Choice(found.model, (Place(found.upstreams[0], Reason.ONLY),), 1)
