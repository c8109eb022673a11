"""One inference request from its arrival to its record, and the answer's way back to the client.

Decides how an answer ends: a stream that breaks after its first byte with an error event and no `[DONE]`;
any other answer that breaks is cut off visibly. Who answers is `walk`'s matter. Does not know HTTP
connections: `upstream` opens them, ASGI's `send` takes the answer.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any

from proxy.failures import broken_fault
from proxy.openai import NO_TOKENS, Fault, fault_event, tokens_of
from proxy.records import TEXT_MAX, Outcome, RequestRecord, Tried, Trouble
from proxy.router import Choice
from proxy.sse import SseScanner
from proxy.upstream import Answer, Header, OutboundRequest, UpstreamError
from proxy.walk import Walk, Ways

Send = Callable[[dict[str, Any]], Awaitable[None]]

USAGE_BODY_MAX_BYTES = 256 * 1024
"""Answers that are not streamed are looked at for usage up to this size."""

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
        self.asked = ""
        """The model's name as the client wrote it; empty: none, or not read."""
        self.model = ""
        self.node: str = node_id
        self.status = 0
        self.started = False
        """Whether the client has been sent anything."""
        self.streamed = False
        self.outcome = Outcome.REFUSED
        self.fault_text = ""
        """What the client was told went wrong."""
        self._choice: Choice | None = None
        self._walk: Walk | None = None
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
        upstream = self._walk.upstream if self._walk is not None else None
        return upstream is not None and upstream.host is not None

    # --- the way there ---------------------------------------------------------------------------

    async def run(
        self,
        ways: Ways,
        choice: Choice,
        request: OutboundRequest,
        send: Send,
        extra: Sequence[Header],
    ) -> None:
        """Answer the request. Raises Fault before the first byte, AnswerBroken after it."""
        self._choice = choice
        self.model = choice.model
        walk = self._walk = Walk(ways, choice)
        try:
            answer, first = await walk.open(request)
            assert walk.upstream is not None
            self.node = walk.upstream.node_id
            try:
                await self._relay(answer, first, send, extra)
            finally:
                answer.close()
        finally:
            walk.end()

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
                self.outcome = Outcome.BROKEN_OFF
                await self.say_broken(send, self._broken(error))
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
                raise AnswerBroken(self._broken(error).message) from error
            await send({"type": "http.response.body", "body": chunk, "more_body": bool(following)})
            chunk = following
        if size == 0:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        if 0 < size <= USAGE_BODY_MAX_BYTES and self.status == 200:
            self._tokens = tokens_of(b"".join(kept))
        self.outcome = Outcome.ANSWERED

    def _broken(self, error: UpstreamError) -> Fault:
        walk = self._walk
        assert walk is not None and walk.upstream is not None
        walk.broke(error)
        fault = broken_fault(error, self.model, walk.upstream)
        self.fault_text = fault.message
        return fault

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
        tries = self._walk.tries if self._walk is not None else ()
        trouble = None
        if tries or self.fault_text:
            trouble = Trouble(tuple(map(Tried.of, tries)), self.fault_text[:TEXT_MAX])
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
            outcome=self.outcome,
            retries=len(tries),
            prompt_tokens=self._tokens.prompt or 0,
            asked=self.asked,
            ended_s=time.time(),
            choice=self._choice,
            trouble=trouble,
        )

    def _count_tokens(self) -> int:
        if self._tokens.generated is not None:
            return self._tokens.generated
        return self._scanner.data_events if self._scanner is not None else 0


def _kept(name: bytes) -> bool:
    return name not in _DROPPED and not name.startswith(b"access-control-")
