"""The receiving end of a request through a peer link: served from this node's own engine, or refused.

Decides who is taken (members and clients alike, within bounds), and what the asker is told: a refusal
before the first byte, an abort with its cause after it. Never asks another node: there is no way from
here to one. What runs here counts in the node's load, is drained and interrupted like its own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from nodes.mesh.ids import NodeId
from nodes.mesh.routing import ModelState, RoutingTable, Upstream
from nodes.mesh.routing_live import LiveHosts
from nodes.runtime.link import Link
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from proxy import tunnel
from proxy.bodies import Bodies
from proxy.config import ApiConfig
from proxy.in_flight import InFlight
from proxy.metrics import ApiMetrics
from proxy.openai import Fault, FaultKind
from proxy.records import Outcome, RecordRing
from proxy.served_request import ServedRequest
from proxy.tunnel import RefusalWord, RequestHead, TunnelAbort, TunnelError
from proxy.tunnel_heads import read_head
from proxy.upstream import OutboundRequest, UpstreamClient, UpstreamError

REQUESTS_MAX = 1024
"""Requests of all peers together; a further one is refused as busy, and its asker tries another node."""
REQUESTS_PER_PEER_MAX = 512
"""Requests of one peer: as many streams as its link may carry (8 connections of 64)."""
HEAD_DEADLINE_S = 10.0
"""From the stream's opening to the end of the request's head."""
TAKEN_DEADLINE_S = 150.0
"""A peer that takes nothing of an answer for so long is cut off. Longer than its own front's patience with
a client that does not read (`ApiConfig.write_stall_deadline_s`), so that front is the one who decides."""


class Refused(Exception):
    """The request is not taken. Raised before anything of an answer was sent."""

    def __init__(
        self, word: RefusalWord, text: str = "", progress: float | None = None, phase: str = ""
    ) -> None:
        super().__init__(text or word.value)
        self.answer = tunnel.AnswerHead(
            refusal=word.value, text=text[:1024], progress=progress, phase=phase[:256]
        )


class PeerDesk:
    """Serves streams of kind `request`: `PeerLinks(..., {"request": desk.serve})`."""

    def __init__(
        self,
        config: ApiConfig,
        routes: Callable[[], RoutingTable],
        engines: UpstreamClient,
        bodies: Bodies,
        running: InFlight,
        node_id: str,
        records: RecordRing,
        metrics: ApiMetrics,
        hosts: LiveHosts,
    ) -> None:
        """`engines` reaches this node's own engines and nothing else; the rest is shared with the API."""
        self._hosts = hosts
        self._config = config
        self._routes = routes
        self._engines = engines
        self._bodies = bodies
        self._running = running
        self._node_id = node_id
        self._records = records
        self._metrics = metrics
        self.requests_max = REQUESTS_MAX
        self.requests_per_peer_max = REQUESTS_PER_PEER_MAX
        self._taken: Counter[NodeId] = Counter()
        self._stopping = False

    def refuse_new(self) -> None:
        """From now on refuse every request: the node is stopping."""
        self._stopping = True

    def taken(self) -> int:
        """Return how many requests of peers are being read or served now."""
        return self._taken.total()

    async def serve(self, link: Link, stream: Stream) -> None:
        """Answer one request of a peer or a client. Raises StreamAbortedError when it gives up."""
        peer = link.peer_id
        if self.taken() >= self.requests_max or self._taken[peer] >= self.requests_per_peer_max:
            _refuse(stream, Refused(RefusalWord.BUSY))
            return
        self._taken[peer] += 1
        try:
            await self._take(peer, stream)
        except Refused as refused:
            _refuse(stream, refused)
        except TunnelError as error:
            _refuse(stream, Refused(RefusalWord.MALFORMED, str(error)))
        except TimeoutError:
            stream.abort(AbortCode.STALLED, "the request did not come in time")
        finally:
            self._taken[peer] -= 1
            if not self._taken[peer]:
                del self._taken[peer]

    async def _take(self, peer: NodeId, stream: Stream) -> None:
        async with asyncio.timeout(HEAD_DEADLINE_S):
            content, rest = await read_head(stream)
        head = tunnel.decode_request(content)
        if head.hops > tunnel.HOPS_MAX:
            raise Refused(RefusalWord.LOOP, "a request is passed on once only")
        route = tunnel.check_request(head)
        if self._stopping:
            raise Refused(RefusalWord.STOPPING)
        upstream = own_engine(self._routes(), head.model)
        served = ServedRequest(head, route.label, upstream, self._node_id, peer)
        body = b""
        try:
            body = await self._body(stream, head, rest)
            await self._run(served, stream, _outbound(head, body))
        except StreamAbortedError:
            served.outcome = Outcome.CLIENT_GONE
            raise
        finally:
            self._bodies.release(len(body))
            self._finish(served)

    async def _body(self, stream: Stream, head: RequestHead, rest: bytes) -> bytes:
        """Return the request's body, held in the budget of all bodies. Raises Refused."""

        async def receive() -> dict[str, Any]:
            nonlocal rest
            piece, rest = rest, b""
            if not piece:
                piece = await stream.read(progress_s=self._config.body_idle_deadline_s)
            return {"type": "http.request", "body": piece, "more_body": bool(piece)}

        try:
            async with asyncio.timeout(self._config.body_deadline_s):
                body = await self._bodies.read(receive, b"%d" % head.body_bytes)
        except Fault as fault:
            large = fault.kind is FaultKind.TOO_LARGE
            word = RefusalWord.TOO_LARGE if large else RefusalWord.BUSY
            raise Refused(word, fault.message) from None
        if len(body) != head.body_bytes:
            self._bodies.release(len(body))
            raise TunnelError("a body of another length than announced")
        return body

    async def _run(self, served: ServedRequest, stream: Stream, request: OutboundRequest) -> None:
        """Carry the request to the engine and its answer back, ended from outside where need be."""
        task = asyncio.current_task()
        assert task is not None
        served.attach(task)
        self._running.add(served)
        # What peers have with an engine counts where this node's own requests are placed.
        host = self._hosts.of(served.upstream.key)
        host.joined()
        stream.on_fault = lambda fault: served.end(Outcome.CLIENT_GONE)
        if stream.closed:
            served.end(Outcome.CLIENT_GONE)
        try:
            await self._relay(served, stream, request)
        except asyncio.CancelledError:
            if served.ended_by is None:
                raise
            task.uncancel()
            self._say_ended(served, stream)
        finally:
            stream.on_fault = None
            host.ended()
            served.attach(None)
            self._running.remove(served)

    async def _relay(self, served: ServedRequest, stream: Stream, request: OutboundRequest) -> None:
        try:
            answer = await self._engines.open(served.upstream, request)
        except UpstreamError as error:
            raise Refused(tunnel.WORD_OF.get(error.trouble, RefusalWord.FAILED)) from error
        try:
            try:
                piece = await answer.read()
            except UpstreamError as error:
                raise Refused(tunnel.WORD_OF.get(error.trouble, RefusalWord.FAILED)) from error
            served.begin(answer.status, answer.headers)
            write, note = stream.write_now, served.note

            def sink(some: bytes) -> bool:
                note(some)
                return write(some, lazily=True)

            head = tunnel.AnswerHead(
                status=answer.status, headers=tunnel.end_to_end(answer.headers)
            )
            write(tunnel.encode(head) + piece)
            note(piece)
            while piece:
                await stream.drained(TAKEN_DEADLINE_S)
                await answer.pump(sink)
                await stream.drained(TAKEN_DEADLINE_S)
                piece = await answer.read()
                if piece:
                    sink(piece)
            stream.end()
            served.outcome = Outcome.ANSWERED
        except UpstreamError as error:
            served.outcome = Outcome.BROKEN_OFF
            code = tunnel.ABORT_OF.get(error.trouble, TunnelAbort.ENGINE_DIED)
            stream.abort(code, error.trouble.value)
        finally:
            answer.close()

    def _say_ended(self, served: ServedRequest, stream: Stream) -> None:
        """Tell the asker why its request was ended, where there is still one to hear it."""
        reason = served.ended_by
        if not isinstance(reason, Fault):
            served.outcome = Outcome.CLIENT_GONE
            return
        served.outcome = Outcome.STOPPED
        if not served.started:
            raise Refused(RefusalWord.STOPPING, reason.message)
        stream.abort(TunnelAbort.STOPPED, reason.message)

    def _finish(self, served: ServedRequest) -> None:
        record = served.record()
        self._running.finished(served, record)
        self._metrics.observe_served(record)
        self._records.add(record)


def own_engine(table: RoutingTable, model: str) -> Upstream:
    """Return this node's own engine that answers with `model` now. Raises Refused."""
    own = [u for u in table.upstreams if u.host is not None and u.model == model]
    for upstream in own:
        if upstream.state is ModelState.READY:
            return upstream
    for upstream in own:
        if upstream.state is ModelState.LOADING:
            raise Refused(RefusalWord.LOADING, "", upstream.progress, upstream.phase)
        if upstream.state is ModelState.DRAINING:
            raise Refused(RefusalWord.DRAINING)
    raise Refused(RefusalWord.NOT_SERVED)


def _outbound(head: RequestHead, body: bytes) -> OutboundRequest:
    return OutboundRequest(head.method, head.target, head.headers, body, head.left_s)


def _refuse(stream: Stream, refused: Refused) -> None:
    """Say a refusal: small enough for the credit that every stream begins with."""
    stream.write_now(tunnel.encode(refused.answer))
    stream.end()
