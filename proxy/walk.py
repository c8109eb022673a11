"""The walk of one request over the hosts that may answer it, up to the first byte.

Decides when the next one is asked: while no byte has reached the client, once for each, never two at the
same time. A host that is left behind is told so before the next is asked, and nothing of its answer is shown.
Keeps the live figures that the next choice is made by (`nodes.mesh.routing_live`).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nodes.mesh.ids import NodeId
from nodes.mesh.routing import Upstream
from nodes.mesh.routing_live import HostLive
from nodes.mesh.routing_order import Place
from proxy.failures import Try, failure_fault
from proxy.first_byte import FirstByteWatch
from proxy.router import Choice, Router
from proxy.upstream import Answer, OutboundRequest, UpstreamClient, UpstreamError, UpstreamTrouble

LOADING_BODY_MAX_BYTES = 8 * 1024
"""A 503 of an engine is taken for "still loading" only if it says so within this many bytes."""
TOLD_AGAIN_S = 0.5
"""One kind of trouble with one node is reported at most this often, however many requests meet it."""
TOLD_MAX = 1_024
"""Reports remembered for that; at the bound all are forgotten, and some are told twice."""

_NO_FAULT_OF_THE_HOST = frozenset(
    (UpstreamTrouble.BUSY, UpstreamTrouble.TOO_LARGE, UpstreamTrouble.NO_ROOM)
)
"""Says nothing against the host, only that this request had no place there."""
_NOT_NOW = frozenset(
    (
        UpstreamTrouble.LOADING,
        UpstreamTrouble.NOT_SERVED,
        UpstreamTrouble.DRAINING,
        UpstreamTrouble.GONE,
    )
)
"""The host lives and said so; it counts as load, so that it draws no traffic until the table knows."""

OnHostFailed = Callable[[NodeId, UpstreamTrouble], None]


@dataclass
class Ways:
    """What all walks share."""

    own: UpstreamClient
    """Reaches the engines of this node."""
    peers: UpstreamClient
    """Reaches the engines of other nodes."""
    router: Router
    watch: FirstByteWatch
    on_host_failed: OnHostFailed
    retry_after_s: int
    _told: dict[tuple[NodeId, UpstreamTrouble], float] = field(default_factory=dict)

    def tell(self, node_id: NodeId, trouble: UpstreamTrouble) -> None:
        """Report what went wrong with another node, unless that was told just now."""
        now = time.monotonic()
        key = (node_id, trouble)
        if now - self._told.get(key, -TOLD_AGAIN_S) < TOLD_AGAIN_S:
            return
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told[key] = now
        self.on_host_failed(node_id, trouble)


class Walk:
    """One request's walk. `open` once, `end` once whatever happened."""

    __slots__ = ("_choice", "_host", "_left", "_rest", "_trial", "_ways", "tries", "upstream")

    def __init__(self, ways: Ways, choice: Choice) -> None:
        self.upstream: Upstream | None = None
        """Who has the request now, or had it last; None: nobody was asked yet."""
        self.tries: list[Try] = []
        """Who was asked and could not answer."""
        self._ways = ways
        self._choice = choice
        self._host: HostLive | None = None
        self._trial = False
        self._rest = 0
        """Hosts left to ask while one is waited for; 0 once it answered."""
        self._left: UpstreamError | None = None
        """Why the host is being left from outside; None: it is not."""

    async def open(self, request: OutboundRequest) -> tuple[Answer, bytes]:
        """Return the first answer and its first bytes. Raises Fault once nobody is left."""
        places, router = self._choice.places, self._ways.router
        for number, place in enumerate(places):
            if number:
                self.end()
            self.upstream = upstream = place.upstream
            host = self._host = router.hosts.of(upstream.key)
            began_s = router.now()
            self._trial = host.began(began_s)
            self._rest = len(places) - number - 1
            try:
                if upstream.host is not None:
                    # Our own engine: its death ends the connection, a hang is its supervisor's to see.
                    answer, first = await _first_bytes(self._ways.own, upstream, request)
                else:
                    answer, first = await self._watched(upstream, places[number + 1 :], request)
            except UpstreamError as error:
                self._failed(upstream, error, began_s)
                continue
            except asyncio.CancelledError:
                self._failed(upstream, self._why_left(), began_s)
                continue
            refusal = None
            if answer.status >= 400:
                refusal = _refusal(answer, first, upstream, places[number + 1 :])
            if refusal is None:
                self._answered(place, answer.status, began_s)
                return answer, first
            answer.close()
            self._failed(upstream, refusal, began_s)
        choice = self._choice
        raise failure_fault(choice.model, self.tries, choice.hosts, self._ways.retry_after_s)

    def leave(self, error: UpstreamError, task: "asyncio.Task[Any]") -> bool:
        """Have `task`, which walks, leave the host it waits for and ask the next one.

        False: nothing was done, since it answered already or nobody is left.
        """
        if not self._rest or self._left is not None:
            return False
        self._left = error
        task.cancel()
        return True

    def _why_left(self) -> UpstreamError:
        """Return why the host was left. Raises CancelledError when the whole request was ended."""
        error, self._left = self._left, None
        task = asyncio.current_task()
        assert task is not None
        if error is None or task.uncancel():
            raise asyncio.CancelledError
        return error

    def broke(self, error: UpstreamError) -> None:
        """Note that the answer that had begun broke off."""
        upstream, host = self.upstream, self._host
        assert upstream is not None and host is not None
        if error.trouble not in _NOT_NOW:
            self._ways.router.hosts.failed(upstream.key, self._ways.router.now(), trial=False)
        self._tell(upstream, error.trouble)

    def end(self) -> None:
        """Count the request out of the host that has it."""
        host = self._host
        if host is None:
            return
        self._host = None
        host.ended()
        if self._trial:
            self._trial = False
            host.abandoned(self._ways.router.now())

    async def _watched(
        self, upstream: Upstream, rest: tuple[Place, ...], request: OutboundRequest
    ) -> tuple[Answer, bytes]:
        """Return the first bytes of another node's host, given up when it shows no sign of life."""
        others = any(not place.late for place in rest)
        async with self._ways.watch.waiting(upstream, others):
            return await _first_bytes(self._ways.peers, upstream, request)

    def _answered(self, place: Place, status: int, began_s: float) -> None:
        assert self._host is not None
        router = self._ways.router
        now = router.now()
        self._rest = 0
        self._trial = False
        if status >= 500:
            self._host.erred(now)
            return
        if status >= 400:
            self._host.refused()
            return
        figures = place.figures  # None: there was no choice, and what is here is all that is known.
        own = self._host.in_flight / max(1, place.upstream.slots)
        queue = figures.queue if figures is not None else max(1.0, own)
        self._host.answered((now - began_s) * 1000, now, queue)
        if status == 200 and self._choice.key is not None:
            router.answered(self._choice, place.upstream.node_id)

    def _failed(self, upstream: Upstream, error: UpstreamError, began_s: float) -> None:
        assert self._host is not None
        router = self._ways.router
        now = router.now()
        self.tries.append(Try(upstream, error, (now - began_s) * 1000))
        trial, self._trial = self._trial, False
        if error.trouble in _NOT_NOW:
            self._host.erred(now)
        elif error.trouble not in _NO_FAULT_OF_THE_HOST:
            router.hosts.failed(upstream.key, now, trial)
        elif trial:
            self._host.abandoned(now)
        self._tell(upstream, error.trouble)

    def _tell(self, upstream: Upstream, trouble: UpstreamTrouble) -> None:
        if upstream.host is None and trouble not in _NO_FAULT_OF_THE_HOST:
            self._ways.tell(upstream.node_id, trouble)


async def _first_bytes(
    client: UpstreamClient, upstream: Upstream, request: OutboundRequest
) -> tuple[Answer, bytes]:
    answer = await client.open(upstream, request)
    try:
        first = await answer.read()
    except BaseException:
        answer.close()
        raise
    return answer, first


def _refusal(
    answer: Answer, first: bytes, upstream: Upstream, rest: tuple[Place, ...]
) -> UpstreamError | None:
    """Return why an answer is one that another host may give better; None: it is the client's."""
    if answer.status == 503 and b"oading model" in first[:LOADING_BODY_MAX_BYTES]:
        return UpstreamError(UpstreamTrouble.LOADING)
    if answer.status == 400 and rest and b"exceed_context_size_error" in first:
        more = any(place.upstream.context > upstream.context for place in rest)
        return UpstreamError(UpstreamTrouble.NO_ROOM) if more else None
    return None
