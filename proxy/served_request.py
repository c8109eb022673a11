"""One request that is served for a peer, from its head to its record."""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from nodes.mesh.ids import NodeId
from nodes.mesh.routing import Upstream
from proxy.access import clean_request_id
from proxy.openai import NO_TOKENS, Fault, tokens_of
from proxy.records import Outcome, RequestRecord
from proxy.sse import SseScanner
from proxy.tunnel import RequestHead
from proxy.upstream import Header

USAGE_BODY_MAX_BYTES = 256 * 1024
"""Answers that are not streamed are looked at for usage up to this size."""


class ServedRequest:
    """What is known of it here. Its bytes pass by; only its tokens are counted."""

    with_own_engine = True

    def __init__(
        self, head: RequestHead, path: str, upstream: Upstream, node_id: str, asked_by: NodeId
    ) -> None:
        self.model: str = upstream.model
        self.upstream = upstream
        self.outcome = Outcome.REFUSED
        self.status = 0
        self.started = False
        """Whether the asker has been sent anything of an answer."""
        self.ended_by: Fault | Outcome | None = None
        """Why it was ended from outside; None: it was not."""
        self._id = clean_request_id(dict(head.headers).get(b"x-request-id")) or ""
        self._path = path
        self._node_id = node_id
        self._asked_by = asked_by
        self._task: asyncio.Task[Any] | None = None
        self._begin_s = perf_counter()
        self._first_s: float | None = None
        self._scanner: SseScanner | None = None
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._reported = 0

    def attach(self, task: "asyncio.Task[Any] | None") -> None:
        """Name the task that carries it, which `end` cancels."""
        self._task = task

    def end(self, reason: Fault | Outcome) -> None:
        """End it: its asker has gone, or the node (or its engine) stops."""
        if self.ended_by is None and self._task is not None:
            self.ended_by = reason
            self._task.cancel()

    def move_on(self, reason: Fault) -> None:
        """End it: its asker asks another host by itself."""
        self.end(reason)

    def begin(self, status: int, headers: Sequence[Header]) -> None:
        """The engine's answer has begun."""
        self.status = status
        self.started = True
        self._first_s = perf_counter()
        if dict(headers).get(b"content-type", b"").startswith(b"text/event-stream"):
            self._scanner = SseScanner()

    def note(self, piece: bytes) -> None:
        """A piece of the answer passes."""
        if self._scanner is not None:
            self._scanner.feed(piece)
            return
        self._kept_bytes += len(piece)
        if self._kept_bytes <= USAGE_BODY_MAX_BYTES:
            self._kept.append(piece)
        else:
            self._kept.clear()

    def fresh_tokens(self) -> int:
        """Return the tokens generated since the last call."""
        _, count = self._tokens()
        fresh = max(0, count - self._reported)
        self._reported = max(count, self._reported)
        return fresh

    def record(self) -> RequestRecord:
        """Return the record of the finished request."""
        prompt, generated = self._tokens(done=True)
        first = self._first_s
        return RequestRecord(
            id=self._id,
            path=self._path,
            model=self.model,
            node=self._node_id,
            status=self.status,
            streamed=self._scanner is not None,
            ttfb_ms=(first - self._begin_s) * 1000 if first is not None else None,
            total_ms=(perf_counter() - self._begin_s) * 1000,
            tokens=generated,
            outcome=self.outcome,
            retries=0,
            prompt_tokens=prompt,
            asked_by=self._asked_by,
        )

    def _tokens(self, *, done: bool = False) -> tuple[int, int]:
        """Return the tokens read and generated, as far as the answer tells by now."""
        found = NO_TOKENS
        if self._scanner is not None:
            found = tokens_of(self._scanner.usage_line)
        elif done and self.status == 200 and self._kept_bytes <= USAGE_BODY_MAX_BYTES:
            found = tokens_of(b"".join(self._kept))
        counted = self._scanner.data_events if self._scanner is not None else 0
        return found.prompt or 0, counted if found.generated is None else found.generated
