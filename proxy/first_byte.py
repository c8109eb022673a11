"""Watches requests that wait for the first byte of a host on another machine.

Decides nothing: `nodes.mesh.routing_patience` says when to give up, by the table of now and the link's
silence. One timer for all of them, and none while nobody waits.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from nodes.mesh.ids import NodeId
from nodes.mesh.routing import HostKey, RoutingTable, Upstream
from nodes.mesh.routing_patience import FirstByteWait, Verdict
from proxy.upstream import UpstreamError, UpstreamTrouble

LOOK_INTERVAL_S = 0.1
"""How often the waiting are looked at: a dead host costs at most so much beyond the verdict on it."""

_TROUBLE = {Verdict.GONE: UpstreamTrouble.GONE, Verdict.SILENT: UpstreamTrouble.SILENT}


class FirstByteWatch:
    """All that wait."""

    def __init__(
        self,
        routes: Callable[[], RoutingTable],
        silence_s: Callable[[NodeId], float | None] = lambda node_id: None,
    ) -> None:
        """`silence_s`: for how long nothing has come over the link to a node; None: not known."""
        self._routes = routes
        self._silence_s = silence_s
        self._waiting: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._table: RoutingTable | None = None
        self._hosts: dict[HostKey, Upstream] = {}

    def waiting(self, upstream: Upstream, others: bool) -> "Waiting":
        """Return a context in which the host's first byte is awaited; it raises UpstreamError to give up.

        `others`: whether a host that is not late is left to ask.
        """
        return Waiting(self, upstream, others)

    def begin(self, waiting: "Waiting") -> None:
        """Look at this one from now on."""
        self._waiting.add(waiting)
        self._arm()

    def end(self, waiting: "Waiting") -> None:
        """Look at it no more."""
        self._waiting.discard(waiting)

    def _arm(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LOOK_INTERVAL_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        table = self._routes()
        if table is not self._table:
            self._table, self._hosts = table, {u.key: u for u in table.upstreams}
        now = asyncio.get_running_loop().time()
        for waiting in tuple(self._waiting):
            upstream = waiting.upstream
            silent_s = self._silence_s(upstream.node_id)
            verdict = waiting.wait.look(self._hosts.get(upstream.key), silent_s, now)
            if verdict is not Verdict.WAIT:
                waiting.give_up(verdict)
        self._arm()


class Waiting:
    """One request that waits for one host's first byte."""

    def __init__(self, watch: FirstByteWatch, upstream: Upstream, others: bool) -> None:
        now = asyncio.get_running_loop().time()
        self.upstream = upstream
        self.wait = FirstByteWait(upstream.rank_last, others, now)
        self._watch = watch
        self._timeout = asyncio.timeout(None)
        self._verdict = Verdict.WAIT

    def give_up(self, verdict: Verdict) -> None:
        """End the wait: its context raises UpstreamError."""
        self._verdict = verdict
        self._watch.end(self)
        self._timeout.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._watch.begin(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.end(self)
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise UpstreamError(_TROUBLE[self._verdict]) from None
