"""The API as one raw ASGI callable: no Django, no ORM, any ASGI server.

Decides the order of things: host and origin, key, path, body, candidates, forward. Faults raised
anywhere below become an answer here, once. Knows engines only through the routing table.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from nodes.mesh.events import ServerLoadSampled
from nodes.mesh.ids import NodeId
from nodes.mesh.routing import Refusal, RequestNeeds, RoutingTable
from proxy import pages
from proxy.access import Access, clean_request_id, cors_headers, preflight_headers
from proxy.bodies import Bodies, ClientGone, Receive
from proxy.config import ApiConfig
from proxy.first_byte import FirstByteWatch
from proxy.forward import Exchange, Send
from proxy.in_flight import InFlight
from proxy.inbound import InboundRequest
from proxy.metrics import ApiMetrics
from proxy.openai import Fault, FaultKind, fault_answer, read_facts, refusal_fault
from proxy.paths import Kind, Route, find
from proxy.records import TEXT_MAX, Outcome, RecordRing, RequestRecord
from proxy.request_story import STORIES_MAX, stories
from proxy.router import Choice, Router
from proxy.serve_peer import PeerDesk
from proxy.upstream import Header, OutboundRequest, UpstreamClient
from proxy.upstream_local import LocalUpstreams
from proxy.upstreams import Upstreams
from proxy.walk import OnHostFailed, Ways

__all__ = ["ApiApp", "ApiConfig"]

OnDisconnect = Callable[[Callable[[], None]], None]


class ApiApp:
    """The API. Call it as an ASGI application."""

    def __init__(
        self,
        config: ApiConfig,
        routes: Callable[[], RoutingTable],
        on_finished: Callable[[RequestRecord], None],
        node_id: str,
        peers: UpstreamClient | None = None,
        on_host_failed: OnHostFailed = lambda node_id, trouble: None,
        silence_s: Callable[[NodeId], float | None] = lambda node_id: None,
    ) -> None:
        """`routes` returns the table of now; `peers` reaches the engines of other nodes, if there are any.

        `on_host_failed` hears at once what another node's host did to a request. `silence_s`: for how long
        nothing has come over the link to a node; None: not known.
        """
        self.config = config
        self.metrics = ApiMetrics()
        self.records = RecordRing()
        self._routes = routes
        self._on_finished = on_finished
        self._node_id = node_id
        self._local = LocalUpstreams(config)
        self._client = Upstreams(self._local, peers)
        self._access = Access(config)
        self._bodies = Bodies(config)
        self._running = InFlight(config.retry_after_s)
        self._router = Router(routes)
        self.peer_desk = PeerDesk(
            config,
            self.table_now,
            self._local,
            self._bodies,
            self._running,
            node_id,
            self.records,
            self.metrics,
            self._router.hosts,
        )
        """Serves what peers and clients ask this node's engines for, on streams of kind `request`."""
        self._stopping = False
        self._ways = Ways(
            self._local,
            self._client,
            self._router,
            FirstByteWatch(routes, silence_s),
            on_host_failed,
            config.retry_after_s,
        )
        self._id_prefix = os.urandom(6).hex()
        self._id_numbers = count(1)

    # --- for the composition root ----------------------------------------------------------------

    def table_now(self) -> RoutingTable:
        """Return the routing table of now."""
        return self._routes()

    def use_peers(self, peers: UpstreamClient) -> None:
        """From now on reach the engines of other nodes with this."""
        self._client.peers = peers

    def in_flight(self, model: str | None = None) -> int:
        """Return how many requests are with this node's engine of `model` now; None: all, wherever."""
        return self._running.count(model)

    def interrupt(self, reason: str, model: str | None = None) -> int:
        """End the running requests with this node's engine of `model` (None: all) and say `reason`.

        Streams get an SSE error event, unanswered requests a 503; peers are told, and ask others.
        Returns how many it were.
        """
        return self._running.interrupt(reason, model)

    def refuse_new(self) -> None:
        """From now on answer new inference requests with 503: the node is stopping."""
        self._stopping = True
        self.peer_desk.refuse_new()

    def load_samples(self, now: float) -> tuple[ServerLoadSampled, ...]:
        """Return the load of this node's engines as of `now` (seconds, monotonic), whoever asked."""
        return self._running.load_samples(now)

    def asked(self) -> Mapping[str, int]:
        """Return how often each model was asked for at this API since the start, whoever answered."""
        return self._running.asked()

    def requests(
        self, limit: int = STORIES_MAX, request_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the last finished requests (or those with this id) as documents, newest first."""
        return stories(self.records, limit, request_id)

    def close(self) -> None:
        """Close the connections to the engines."""
        self._local.close()

    # --- ASGI ------------------------------------------------------------------------------------

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; other scopes are declined."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        request = InboundRequest(scope)
        request_id = clean_request_id(request.seen.get(b"x-request-id")) or self._new_id()
        extra: list[Header] = [(b"x-request-id", request_id.encode("ascii"))]
        try:
            await self._answer(scope, request, receive, send, extra, request_id)
        except Fault as fault:
            await self._send_fault(send, fault, extra, head=request.method == "HEAD")
        except ClientGone:
            return

    def _new_id(self) -> str:
        return f"req-{self._id_prefix}-{next(self._id_numbers):x}"

    async def _answer(
        self,
        scope: dict[str, Any],
        request: InboundRequest,
        receive: Receive,
        send: Send,
        extra: list[Header],
        request_id: str,
    ) -> None:
        seen = request.seen
        self._access.check_host(request.hosts, scope.get("http_version", "1.1"))
        origin = seen.get(b"origin")
        self._access.check_origin(origin, request.hosts[0] if request.hosts else b"")
        extra.extend(cors_headers(origin))
        if request.method == "OPTIONS":
            wanted = seen.get(b"access-control-request-headers")
            private = seen.get(b"access-control-request-private-network") == b"true"
            await _send_empty(send, 204, extra + preflight_headers(wanted, private))
            return
        route = find(request.path)
        if route is None:
            shown = request.path[:100]
            text = (
                f"There is no {request.method} {shown} here. Ask below /v1, such as GET /v1/models."
            )
            raise Fault(FaultKind.NO_ROUTE, text)
        if request.method not in route.methods:
            allow = ((b"allow", ", ".join((*route.methods, "OPTIONS")).encode("ascii")),)
            text = f"{route.label} takes {' or '.join(route.methods)}, not {request.method}."
            raise Fault(FaultKind.BAD_METHOD, text, headers=allow)
        if route.needs_key:
            self._access.check_key(seen.get(b"authorization"), seen.get(b"x-api-key"))
        if route.kind in (Kind.JSON, Kind.EMBEDDINGS, Kind.FORM, Kind.OPAQUE):
            await self._infer(route, request, receive, send, extra, request_id)
            return
        await self._send_page(route, request, send, extra)

    async def _send_page(
        self, route: Route, request: InboundRequest, send: Send, extra: list[Header]
    ) -> None:
        table = self._routes()
        match route.kind:
            case Kind.MODELS:
                page = pages.models(table, request.path)
            case Kind.HEALTH:
                page = pages.health(table, self.config.retry_after_s, stopping=self._stopping)
            case Kind.METRICS:
                self.metrics.in_flight.set(len(self._running))
                page = pages.metrics(self.metrics)
            case _:
                page = pages.hint(self._node_id)
        extra.append((b"x-mesh-node", self._node_id.encode("ascii", "replace")))
        start = {"type": "http.response.start", "status": page.status}
        await send({**start, "headers": [*page.headers, *extra]})
        body = b"" if request.method == "HEAD" else page.body
        await send({"type": "http.response.body", "body": body, "more_body": False})

    # --- inference -------------------------------------------------------------------------------

    async def _infer(
        self,
        route: Route,
        request: InboundRequest,
        receive: Receive,
        send: Send,
        extra: list[Header],
        request_id: str,
    ) -> None:
        exchange = Exchange(request_id, route.label, self._node_id)
        exchange.write_now = request.write_now
        size = 0
        try:
            body = await self._bodies.read(receive, request.seen.get(b"content-length"))
            size = len(body)
            choice = self._choose(exchange, route, request, body)
            outbound = OutboundRequest(
                request.method.encode("ascii"), request.target, self._onward(request, extra), body
            )
            watch = request.on_disconnect
            await self._carry(exchange, choice, outbound, receive, send, extra, watch)
        except Fault as fault:
            exchange.status = fault.kind.status
            exchange.fault_text = fault.message
            raise
        except ClientGone as gone:
            exchange.outcome = gone.outcome
            raise
        finally:
            self._bodies.release(size)
            self._finish(exchange)

    def _choose(
        self, exchange: Exchange, route: Route, request: InboundRequest, body: bytes
    ) -> Choice:
        if self._stopping:
            text = "This node is stopping; ask another node of the mesh, or again shortly."
            raise Fault(FaultKind.STOPPING, text, retry_after_s=self.config.retry_after_s)
        needs = RequestNeeds(None)
        if route.kind is not Kind.OPAQUE:
            _refuse_encoded(request.seen.get(b"content-encoding"))
            form = route.kind is Kind.FORM
            embeddings = route.kind is Kind.EMBEDDINGS
            needs = read_facts(body, embeddings=embeddings, form=form).needs
            exchange.asked = (needs.model or "")[:TEXT_MAX]
        found = self._router.choose(needs, body if route.kind is Kind.JSON else None)
        if isinstance(found, Refusal):
            raise refusal_fault(found, self.config.retry_after_s)
        return found

    def _onward(self, request: InboundRequest, extra: list[Header]) -> list[Header]:
        return [*request.forwarded, extra[0]]

    async def _carry(
        self,
        exchange: Exchange,
        choice: Choice,
        outbound: OutboundRequest,
        receive: Receive,
        send: Send,
        extra: list[Header],
        on_disconnect: OnDisconnect | None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        exchange.attach(task)
        self._running.add(exchange)
        self._running.note_asked(choice.model)
        watch = _watch(on_disconnect, receive, exchange)
        try:
            await exchange.run(self._ways, choice, outbound, send, extra)
        except asyncio.CancelledError:
            if exchange.ended_by is None:
                raise
            task.uncancel()
            await self._ended(exchange, send)
        finally:
            exchange.attach(None)
            self._running.remove(exchange)
            if watch is not None:
                watch.cancel()

    async def _ended(self, exchange: Exchange, send: Send) -> None:
        """Say why an exchange was ended from outside, where there is someone to hear it."""
        reason = exchange.ended_by
        if not isinstance(reason, Fault):
            exchange.outcome = Outcome.CLIENT_GONE
            raise ClientGone
        exchange.outcome = Outcome.STOPPED
        exchange.fault_text = reason.message
        if not exchange.started:
            raise reason
        await exchange.say_broken(send, reason)

    def _finish(self, exchange: Exchange) -> None:
        record = exchange.record()
        self._running.finished(exchange, record)
        self.metrics.observe(record)
        self.records.add(record)
        self._on_finished(record)

    async def _send_fault(
        self, send: Send, fault: Fault, extra: list[Header], *, head: bool
    ) -> None:
        status, headers, body = fault_answer(fault)
        headers.extend(extra)
        headers.append((b"x-mesh-node", self._node_id.encode("ascii", "replace")))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"" if head else body, "more_body": False}
        )


def _watch(
    on_disconnect: OnDisconnect | None, receive: Receive, exchange: Exchange
) -> "asyncio.Task[None] | None":
    """End the exchange when its client goes: by a call of our front, else by a task that waits."""
    if on_disconnect is None:
        return asyncio.create_task(_await_disconnect(receive, exchange))
    on_disconnect(lambda: exchange.end(Outcome.CLIENT_GONE))
    return None


async def _await_disconnect(receive: Receive, exchange: Exchange) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.end(Outcome.CLIENT_GONE)
            return


def _refuse_encoded(encoding: bytes | None) -> None:
    if encoding and encoding.strip().lower() not in (b"", b"identity"):
        raise Fault(FaultKind.BAD_BODY, "Send the body uncompressed (no Content-Encoding).")


async def _send_empty(send: Send, status: int, headers: list[Header]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
