"""What this node knows of each host's load at this moment, beyond the table.

Decides how busy a host is taken to be: what it said of itself, corrected at once by what this node has sent
since; how quick it is, as seen from here; and what its recent failures weigh. A failure counts as load, so
that a host that fails quickly (and so is always idle) does not draw the traffic. Changed by `proxy.walk` at
each turn of a request; read by `routing_order`. Times are handed in.

Source: Mitzenmacher, "The Power of Two Choices" (2001), for what the figures are used for; Envoy's and
Finagle's balancers for counting own requests at once.
"""

import math

import msgspec

from nodes.mesh.engine_load import FREE_SLOTS_TOLD_MAX, STALE_S
from nodes.mesh.routing import HostKey, Upstream
from nodes.mesh.routing_breaker import Breaker, BreakerState

HOSTS_MAX = 8_192
"""Hosts remembered; beyond, those without a request under way are forgotten."""
FAILURE_LOAD = 1.0
"""What one failure weighs, in shares of the host's slots: as if it were once more full."""
FAILURES_LOAD_MAX = 8.0
FAILURE_HALF_LIFE_S = 5.0
FAILURE_FORGOTTEN = 0.25
"""Less than this is nothing: between idle hosts the smallest remainder would decide every time."""
OWN_PEAK_S = 2.0
"""A host's word is so old at most when it is heard of: sampled each second, told and shown at half seconds.
What this node had with the host within that time may be in the word, and is not counted twice."""
TTFB_WEIGHT = 0.2
"""Of the newest answer in the moving average of times to first byte: about the last ten count."""
TTFB_JUMP = 4.0
TTFB_JUMP_FROM_MS = 25.0
"""A new time counts as at most so many times the average, or this: one stall says little, and neither does
the first answer of a cold engine. A slow host is slow again and again."""
TTFB_KEPT_S = 60.0
"""Own times older than this say nothing any more: what the host tells of itself counts then."""
TTFB_FADE_S = 1.0
TTFB_FADE_TIMES = 1.0
"""A time to first byte counts half after so long without a new one: these seconds, or so many times itself.
One slow answer would else keep a host from being asked, and so from showing that it is quick."""


class Figures(msgspec.Struct, frozen=True, gc=False):
    """One host at one moment."""

    busy: float
    """Requests it is taken to hold, the one to be placed not among them."""
    slots: int
    failures: float
    """Recent failures as load, in shares of its slots."""
    ttfb_ms: float | None
    """Time to first byte as seen from here, the way included, a queue's part taken off; None: not known."""
    rtt_ms: float

    @property
    def queue(self) -> float:
        """How many times over its slots would be taken with one more request; 1: there is no queue."""
        return max(1.0, (self.busy + 1) / max(1, self.slots))

    @property
    def pressure(self) -> float:
        """How full it would be with one more request: 1.0 is all slots, more is a queue."""
        return (self.busy + 1) / max(1, self.slots) + self.failures


class HostLive:
    """One host's live figures."""

    __slots__ = (
        "_breaker",
        "_failed_s",
        "_failures",
        "_number",
        "_own_then",
        "_peak",
        "_peak_before",
        "_peak_since_s",
        "_seen_s",
        "_ttfb_ms",
        "_ttfb_s",
        "in_flight",
    )

    def __init__(self) -> None:
        self.in_flight = 0
        """Requests that this node has with the host; of its own engines those of other nodes too."""
        self._breaker = Breaker()
        self._failures = 0.0
        self._failed_s = 0.0
        self._ttfb_ms: float | None = None
        self._ttfb_s = 0.0
        self._number = -1
        self._seen_s = 0.0
        self._own_then = 0
        self._peak = self._peak_before = 0
        self._peak_since_s = 0.0

    def began(self, now: float) -> bool:
        """Count a request that is being sent to the host; return whether it is the breaker's trial."""
        self.in_flight += 1
        if self.in_flight > self._peak or now - self._peak_since_s >= OWN_PEAK_S:
            self._look_at_peak(now)
        return not self._breaker.untroubled and self._breaker.began(now)

    def joined(self) -> None:
        """Count a request that a peer has with this node's own engine."""
        self.in_flight += 1

    def answered(self, ttfb_ms: float, now: float, queue: float = 1.0) -> None:
        """Note the first byte of an answer, `ttfb_ms` after the request was sent into such a queue.

        What the queue cost is taken off: the pressure says it already, and says it of now.
        """
        ttfb_ms /= queue
        if not self._breaker.untroubled:
            self._breaker.succeeded()
        old = self._ttfb_ms if now - self._ttfb_s <= TTFB_KEPT_S else None
        counted_ms = min(ttfb_ms, TTFB_JUMP * max(old or 0.0, TTFB_JUMP_FROM_MS))
        self._ttfb_ms = counted_ms if old is None else old + TTFB_WEIGHT * (counted_ms - old)
        self._ttfb_s = now

    def refused(self) -> None:
        """Note an answer that refuses the request: nothing was done for it, so its time says nothing."""
        if not self._breaker.untroubled:
            self._breaker.succeeded()

    def erred(self, now: float) -> None:
        """Note an answer that was an error of the engine's own: it counts as load, not against its life."""
        self._breaker.succeeded()
        self._weigh(now)

    def failed(self, now: float, trial: bool) -> None:
        """Note that the host failed before its first byte."""
        self._weigh(now)
        self._breaker.failed(now, trial)

    def came_back(self) -> None:
        """Forget what was wrong with it and how quick it was: it is another process now."""
        self._breaker = Breaker()
        self._failures = 0.0
        self._ttfb_ms = None

    def ended(self) -> None:
        """Count a request out, however it ended."""
        self.in_flight -= 1

    def abandoned(self, now: float) -> None:
        """Note that the trial ended before it showed anything."""
        self._breaker.abandoned(now)

    def breaker(self, now: float) -> BreakerState:
        """Return whether requests may pass."""
        return self._breaker.state(now)

    def figures(self, upstream: Upstream, now: float) -> Figures:
        """Return the host's figures at `now`."""
        own = self.in_flight
        rtt_ms = upstream.rtt_ms or 0.0
        ttfb_ms = self._ttfb_now(now)
        busy = float(own)
        load = upstream.load
        if load is not None:
            if load.number != self._number:
                self._look_at_peak(now)
                self._number, self._seen_s = load.number, now
                self._own_then = max(self._peak, self._peak_before)
            if now - self._seen_s <= STALE_S:
                taken = min(upstream.slots, FREE_SLOTS_TOLD_MAX) - load.free_slots
                told = max(load.in_flight, taken)
                busy = float(own + max(0, told - self._own_then))
                # Of a host that answers nobody it is old, and would keep it from being asked for ever.
                recent = load.requests_per_minute > 0
                if ttfb_ms is None and load.ttfb_p50_ms is not None and recent:
                    ttfb_ms = load.ttfb_p50_ms + rtt_ms
        return Figures(busy, upstream.slots, self._failures_now(now), ttfb_ms, rtt_ms)

    def _look_at_peak(self, now: float) -> None:
        """Keep the most own requests that were here at once, over one to two times `OWN_PEAK_S`."""
        passed_s = now - self._peak_since_s
        if passed_s >= OWN_PEAK_S:
            self._peak_before = self._peak if passed_s < 2 * OWN_PEAK_S else self.in_flight
            self._peak, self._peak_since_s = self.in_flight, now
        self._peak = max(self._peak, self.in_flight)

    def _ttfb_now(self, now: float) -> float | None:
        age_s = now - self._ttfb_s
        if self._ttfb_ms is None or age_s > TTFB_KEPT_S:
            return None
        half_life_s = max(TTFB_FADE_S, TTFB_FADE_TIMES * self._ttfb_ms / 1000)
        return self._ttfb_ms * math.exp2(-age_s / half_life_s)

    def _weigh(self, now: float) -> None:
        self._failures = min(FAILURES_LOAD_MAX, self._failures_now(now) + FAILURE_LOAD)
        self._failed_s = now

    def _failures_now(self, now: float) -> float:
        if not self._failures:
            return 0.0
        age_s = now - self._failed_s
        left = self._failures * math.exp2(-age_s / FAILURE_HALF_LIFE_S)
        return left if left >= FAILURE_FORGOTTEN else 0.0


class LiveHosts:
    """Every host that was asked lately."""

    def __init__(self) -> None:
        self._hosts: dict[HostKey, HostLive] = {}
        self._suspected: set[HostKey] = set()
        """Hosts whose breaker may be open: they are few, and most of the time there are none."""

    def of(self, key: HostKey) -> HostLive:
        """Return the host's live figures, new ones for a host not seen before."""
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= HOSTS_MAX:
                self._forget_idle()
            host = self._hosts[key] = HostLive()
        return host

    def failed(self, key: HostKey, now: float, trial: bool) -> None:
        """Note that a host failed before its first byte."""
        self.of(key).failed(now, trial)
        self._suspected.add(key)

    def came_back(self, key: HostKey) -> None:
        """Forget the past of a host that was not to be asked for a while."""
        if key in self._hosts:
            self._hosts[key].came_back()
            self._suspected.discard(key)

    def broken(self, now: float) -> frozenset[HostKey]:
        """Return the hosts whose breaker is open."""
        if not self._suspected:
            return frozenset()
        states = {key: self.of(key).breaker(now) for key in self._suspected}
        self._suspected = {k for k, state in states.items() if state is not BreakerState.CLOSED}
        return frozenset(k for k, state in states.items() if state is BreakerState.OPEN)

    def __len__(self) -> int:
        return len(self._hosts)

    def _forget_idle(self) -> None:
        self._hosts = {key: host for key, host in self._hosts.items() if host.in_flight}
        self._suspected.intersection_update(self._hosts)
