"""The walk of one request over its candidates, and of the answer back to the client.

Decides: the next candidate is tried only while no byte has reached the client; a stream that breaks
later ends with an error event and no `[DONE]`; any other answer that breaks is cut off visibly.
Does not know HTTP connections: `upstream` opens them, ASGI's `send` takes the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any

from nodes.mesh.routing import Candidates, Upstream
from proxy.openai import NO_TOKENS, Fault, FaultKind, fault_event, loading_fault, tokens_of
from proxy.records import Outcome, RequestRecord
from proxy.sse import SseScanner
from proxy.upstream import (
    Answer,
    Header,
    OutboundRequest,
    UpstreamClient,
    UpstreamError,
    UpstreamTrouble,
)

Send = Callable[[dict[str, Any]], Awaitable[None]]

USAGE_BODY_MAX_BYTES = 256 * 1024
"""Answers that are not streamed are looked at for usage up to this size."""
LOADING_BODY_MAX_BYTES = 8 * 1024
"""A 503 of an engine is taken for "still loading" only if it says so within this many bytes."""

_DROPPED = frozenset(
    b"connection keep-alive transfer-encoding te trailer upgrade proxy-connection "
    b"proxy-authenticate proxy-authorization date x-request-id x-mesh-node vary set-cookie".split()
)
"""Answer headers that end here: hop-by-hop ones (RFC 9110 section 7.6.1) and those we set ourselves."""


class AnswerBroken(Exception):
    """An answer broke midway and cannot say so in-band; the server must cut the connection."""


class Exchange:
    """One inference request from its arrival to its record."""

    def __init__(self, request_id: str, path: str, node_id: str) -> None:
        self.request_id = request_id
        self.path = path
        self.model = ""
        self.node: str = node_id
        self.status = 0
        self.started = False
        """Whether the client has been sent anything."""
        self.streamed = False
        self.retries = 0
        self.upstream: Upstream | None = None
        """The candidate that has the request now, or had it last; None: no one was asked yet."""
        self.outcome = Outcome.REFUSED
        self._begin_s = perf_counter()
        self._first_s: float | None = None
        self._scanner: SseScanner | None = None
        self._tokens = NO_TOKENS
        self._tokens_reported = 0
        self._task: asyncio.Task[Any] | None = None
        self.write_now: Callable[[bytes], bool] | None = None
        """Writes a piece of the begun answer at once; False: the client is slow. None: only `send`."""
        self.ended_by: Fault | Outcome | None = None
        """Why the exchange was ended from outside; None: it was not."""

    # --- ending it from outside: the one cancellation path ---------------------------------------

    def attach(self, task: "asyncio.Task[Any] | None") -> None:
        """Name the task that carries the exchange, which `end` cancels."""
        self._task = task

    def end(self, reason: Fault | Outcome) -> None:
        """End the exchange: the client has gone, or the node (or its engine) stops."""
        if self.ended_by is None and self._task is not None:
            self.ended_by = reason
            self._task.cancel()

    @property
    def with_own_engine(self) -> bool:
        """Whether the request is with an engine of this node, not behind a peer link."""
        return self.upstream is not None and self.upstream.host is not None

    # --- the walk --------------------------------------------------------------------------------

    async def run(
        self,
        client: UpstreamClient,
        found: Candidates,
        request: OutboundRequest,
        send: Send,
        extra: Sequence[Header],
        retry_after_s: int,
    ) -> None:
        """Answer the request. Raises Fault before the first byte, AnswerBroken after it."""
        self.model = found.model
        answer, first = await self._open(client, found, request, retry_after_s)
        try:
            await self._relay(answer, first, send, extra)
        finally:
            answer.close()

    async def _open(
        self,
        client: UpstreamClient,
        found: Candidates,
        request: OutboundRequest,
        retry_after_s: int,
    ) -> tuple[Answer, bytes]:
        fault = Fault(FaultKind.BROKEN, "No candidate was tried.")
        for number, upstream in enumerate(found.upstreams):
            self.retries = number
            self.upstream = upstream
            try:
                answer, first = await self._attempt(client, upstream, request)
            except UpstreamError as error:
                fault = _upstream_fault(error, upstream, retry_after_s)
                continue
            if answer.status == 503 and b"oading model" in first[:LOADING_BODY_MAX_BYTES]:
                answer.close()
                fault = loading_fault(upstream.model, retry_after_s)
                continue
            self.node = upstream.node_id
            return answer, first
        raise fault

    async def _attempt(
        self, client: UpstreamClient, upstream: Upstream, request: OutboundRequest
    ) -> tuple[Answer, bytes]:
        answer = await client.open(upstream, request)
        try:
            first = await answer.read()
        except BaseException:
            answer.close()
            raise
        return answer, first

    # --- the answer ------------------------------------------------------------------------------

    async def _relay(
        self, answer: Answer, first: bytes, send: Send, extra: Sequence[Header]
    ) -> None:
        headers = [h for h in answer.headers if _kept(h[0])]
        content_type = dict(headers).get(b"content-type", b"")
        self.streamed = content_type.startswith(b"text/event-stream")
        if self.streamed:
            headers = [h for h in headers if h[0] != b"content-length"]
        headers.extend(extra)
        headers.append((b"x-mesh-node", self.node.encode("ascii", "replace")))
        self.status = answer.status
        self.started = True
        self._first_s = perf_counter()
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if self.streamed:
            await self._relay_events(answer, first, send)
        else:
            await self._relay_bytes(answer, first, send)

    async def _relay_events(self, answer: Answer, chunk: bytes, send: Send) -> None:
        scanner = self._scanner = SseScanner()
        feed, write_now = scanner.feed, self.write_now

        def sink(piece: bytes) -> bool:
            whole = feed(piece)
            return not whole or write_now is None or write_now(whole)

        while chunk:
            await send({"type": "http.response.body", "body": feed(chunk), "more_body": True})
            try:
                if write_now is not None:
                    await answer.pump(sink)
                    # `send` is what waits for a slow client.
                    await send({"type": "http.response.body", "body": b"", "more_body": True})
                chunk = await answer.read()
            except UpstreamError as error:
                await self._break_off(send, _broken_fault(error, self.model, self.node))
                return
        await send({"type": "http.response.body", "body": scanner.rest(), "more_body": False})
        self.outcome = Outcome.ANSWERED

    async def _relay_bytes(self, answer: Answer, chunk: bytes, send: Send) -> None:
        kept: list[bytes] = []
        size = 0
        while chunk:
            size += len(chunk)
            if size <= USAGE_BODY_MAX_BYTES:
                kept.append(chunk)
            try:
                following = await answer.read()
            except UpstreamError as error:
                self.outcome = Outcome.BROKEN_OFF
                raise AnswerBroken(str(error)) from error
            await send({"type": "http.response.body", "body": chunk, "more_body": bool(following)})
            chunk = following
        if size == 0:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        if 0 < size <= USAGE_BODY_MAX_BYTES and self.status == 200:
            self._tokens = tokens_of(b"".join(kept))
        self.outcome = Outcome.ANSWERED

    async def _break_off(self, send: Send, fault: Fault) -> None:
        self.outcome = Outcome.BROKEN_OFF
        await self.say_broken(send, fault)

    async def say_broken(self, send: Send, fault: Fault) -> None:
        """End a stream that has begun with an error event and no `[DONE]`.

        Raises AnswerBroken for an answer that is not a stream of events.
        """
        scanner = self._scanner
        if scanner is None:
            raise AnswerBroken(fault.message)
        # What was passed on of an event too long to hold is closed first, so that the error is one.
        close = b"\n\n" if scanner.split else b""
        body = close + fault_event(fault)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    # --- what remains of it ----------------------------------------------------------------------

    def fresh_tokens(self) -> int:
        """Return the tokens generated since the last call."""
        count = self._count_tokens()
        fresh = max(0, count - self._tokens_reported)
        self._tokens_reported = max(count, self._tokens_reported)
        return fresh

    def record(self) -> RequestRecord:
        """Return the record of the finished exchange."""
        if self._scanner is not None:
            self._tokens = tokens_of(self._scanner.usage_line)
        first = self._first_s
        return RequestRecord(
            id=self.request_id,
            path=self.path,
            model=self.model,
            node=self.node,
            status=self.status,
            streamed=self.streamed,
            ttfb_ms=(first - self._begin_s) * 1000 if first is not None else None,
            total_ms=(perf_counter() - self._begin_s) * 1000,
            tokens=self._count_tokens(),
            prompt_tokens=self._tokens.prompt or 0,
            outcome=self.outcome,
            retries=self.retries,
        )

    def _count_tokens(self) -> int:
        if self._tokens.generated is not None:
            return self._tokens.generated
        return self._scanner.data_events if self._scanner is not None else 0


def _kept(name: bytes) -> bool:
    return name not in _DROPPED and not name.startswith(b"access-control-")


def _upstream_fault(error: UpstreamError, upstream: Upstream, retry_after_s: int) -> Fault:
    node = upstream.node_id[:12]
    text = f"The engine of '{upstream.model}' on node {node} {error.trouble.value}"
    match error.trouble:
        case UpstreamTrouble.SLOW:
            return Fault(FaultKind.UPSTREAM_SLOW, f"{text}, and no other node serves the model.")
        case UpstreamTrouble.BUSY:
            text += "; try again shortly."
            return Fault(FaultKind.OVERLOADED, text, retry_after_s=retry_after_s)
        case UpstreamTrouble.LOADING:
            return loading_fault(upstream.model, retry_after_s, error.progress, error.phase)
        case UpstreamTrouble.NOT_SERVED | UpstreamTrouble.DRAINING:
            text += ", and no other node serves the model; try again shortly."
            return Fault(FaultKind.NOTHING_SERVED, text, retry_after_s=retry_after_s)
        case UpstreamTrouble.TOO_LARGE:
            return Fault(FaultKind.TOO_LARGE, f"{text}.")
        case UpstreamTrouble.LINK_LOST:
            return Fault(FaultKind.UPSTREAM_DIED, f"{text}, and no other node could answer.")
        case _:
            text += ", and no other node could answer; the node starts it again by itself."
            return Fault(FaultKind.UPSTREAM_DIED, text)


def _broken_fault(error: UpstreamError, model: str, node: str) -> Fault:
    if error.trouble is UpstreamTrouble.SLOW:
        text = f"The engine of '{model}' fell silent in the middle of the answer; ask again."
        return Fault(FaultKind.UPSTREAM_SLOW, text)
    if error.trouble is UpstreamTrouble.LINK_LOST:
        text = f"The link to node {node[:12]}, which was answering with '{model}', was lost; ask again."
        return Fault(FaultKind.UPSTREAM_DIED, text)
    if error.trouble is UpstreamTrouble.DRAINING:
        text = error.text or f"'{model}' is being stopped on node {node[:12]}; ask again."
        return Fault(FaultKind.STOPPING, text)
    text = f"The engine of '{model}' failed in the middle of the answer; ask again."
    return Fault(FaultKind.UPSTREAM_DIED, text)
