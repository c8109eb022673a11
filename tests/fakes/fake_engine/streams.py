"""Open streams and the one clock that feeds them all.

One heap and one timer serve every stream: a task or a timer per stream would make the fake the slowest
part of what it measures. A stream whose reader does not keep up waits for the transport to drain, as
the real server's socket write does.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.fake_engine import answers
from tests.fakes.fake_engine.requests import Ask

BURST_TOKENS = 32
"""Of a stream without interval: written per turn of the loop, so that others get theirs."""


@dataclass(slots=True)
class Counters:
    """What happened since the start; `/fake/stats` shows it."""

    connections: int = 0
    requests: int = 0
    streams_opened: int = 0
    streams_done: int = 0
    streams_cancelled: int = 0
    tokens_sent: int = 0
    last_cancelled_monotonic_s: float = 0.0
    """CLOCK_MONOTONIC, which other processes of this machine share."""


class Stream:
    """One streamed answer on one transport."""

    __slots__ = ("_ask", "_closing", "_counters", "_feed", "_interval_s", "_left", "_opening", "_token",
                 "_transport", "due_s", "on_end", "open", "paused", "sent", "started")  # fmt: skip

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        ask: Ask,
        chat: bool,
        model: str,
        feed: "StreamFeed",
    ) -> None:
        wish = ask.fake
        self.on_end: Callable[[bool], None] | None = None
        self._transport = transport
        self._ask = ask
        self._feed = feed
        self._counters = feed.counters
        self._interval_s = feed.interval_s if wish.interval_s is None else wish.interval_s
        self._left = ask.tokens
        self._token = answers.token(model, chat, wish.chunk_bytes)
        self._opening = answers.STREAM_HEAD + answers.opening(model, chat)
        self._closing = answers.closing(model, chat, ask.tokens)
        self.sent = 0
        self.started = False
        self.open = True
        self.paused = False
        self.due_s = 0.0

    def step(self) -> bool:
        """Send what is due; return whether the stream wants another turn by itself."""
        if not self.started:
            # As the real one does: not even the head goes out before the first token is there.
            self.started = True
            self._transport.write(self._opening)
        burst = 1 if self._interval_s else BURST_TOKENS
        while burst and self._left and self.open and not self.paused:
            burst -= 1
            self._left -= 1
            self.sent += 1
            self._counters.tokens_sent += 1
            self._transport.write(self._token)
            if self.sent == self._ask.fake.drop_after_tokens:
                self._feed.end(self, dropped=True)
                return False
        if self.open and not self._left:
            self._transport.write(self._closing)
            self._feed.end(self, dropped=False)
        self.due_s += self._interval_s
        return self.open and not self.paused


class StreamFeed:
    """Every open stream of the process, the soonest due first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float) -> None:
        self.interval_s = interval_s
        self.counters = Counters()
        self.open = 0
        self._loop = loop
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Stream]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0

    def add(self, stream: Stream, first_token_s: float) -> None:
        """Take a stream in; its first token goes out at once where `first_token_s` is 0."""
        self.open += 1
        self.counters.streams_opened += 1
        stream.due_s = self._loop.time() + first_token_s
        if first_token_s or stream.step():
            self._push(stream)

    def resume(self, stream: Stream) -> None:
        """Go on with a stream whose reader has caught up."""
        stream.paused = False
        stream.due_s = max(stream.due_s, self._loop.time())
        self._push(stream)

    def end(self, stream: Stream, *, dropped: bool, cancelled: bool = False) -> None:
        """Take a stream out: finished, cancelled by its reader, or dropped as the request wished."""
        if not stream.open:
            return
        stream.open = False
        self.open -= 1
        if cancelled:
            self.counters.streams_cancelled += 1
            self.counters.last_cancelled_monotonic_s = time.monotonic()
        elif not dropped:
            self.counters.streams_done += 1
        if stream.on_end is not None:
            stream.on_end(dropped)

    def _push(self, stream: Stream) -> None:
        heapq.heappush(self._heap, (stream.due_s, next(self._order), stream))
        self._arm()

    def _arm(self) -> None:
        if not self._heap:
            return
        due_s = self._heap[0][0]
        if self._timer is not None:
            if self._timer_due_s <= due_s:
                return
            self._timer.cancel()
        self._timer_due_s = due_s
        self._timer = self._loop.call_at(due_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now_s = self._loop.time() + 0.0005
        ready: list[Stream] = []
        while self._heap and self._heap[0][0] <= now_s:
            ready.append(heapq.heappop(self._heap)[2])
        for stream in ready:
            if stream.open and not stream.paused and stream.step():
                heapq.heappush(self._heap, (stream.due_s, next(self._order), stream))
        self._arm()
