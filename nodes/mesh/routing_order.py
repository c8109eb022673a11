"""In which order the hosts of a model are asked: a pure function of what is known and one random number.

Rules, the first that tells two hosts apart decides:
1. Standing (`routing`): able, then doubtful; then hosts whose breaker is open; then the suspect and late.
2. The host that answered the conversation's last turn holds its prompt in memory: it comes first, unless it
   would have to queue and the host that load alone would choose is much less pressed.
3. Two are drawn at random, the less costly of them is next: pressure, times a factor where one's time to
   first byte is more than twice the other's. Equal costs: the one drawn first.

Why two and not the best of all: many nodes choose at once by figures of the last second, and all would choose
the same one. Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001).
"""

from collections.abc import Callable, Set
from enum import StrEnum

import msgspec

from nodes.mesh.ids import NodeId
from nodes.mesh.routing import Candidates, HostKey, Standing, Upstream
from nodes.mesh.routing_live import Figures

HOSTS_TRIED_MAX = 8
"""Hosts that one request is sent to at most; after so many failures it is answered with an error."""
STICKY_PRESSURE = 1.0
"""Up to this pressure (a slot is free) a conversation stays with its host whatever the others do."""
STICKY_SLACK = 1.5
"""Beyond, it stays while the host is at most so many times as pressed as the one it would move to."""
LATENCY_FLOOR_MS = 50.0
"""Times to first byte below this are taken for equal: they differ by prompts and noise, not by hosts."""
LATENCY_BAND = 2.0
"""One host must be so many times slower before it counts; beyond, the excess multiplies its pressure."""
LATENCY_FACTOR_MAX = 4.0
"""A host's slowness never outweighs more than so many times the pressure."""


class Reason(StrEnum):
    """Why a host has its place in the order."""

    ONLY = "only"
    """Nobody else serves the model."""
    CONVERSATION = "conversation"
    """It answered the conversation's last turn."""
    LOAD = "load"
    """The better of two drawn at random."""
    DOUBTFUL = "doubtful"
    """Too little context, or not what the request needs, as far as is known."""
    BREAKER = "breaker"
    """It failed several requests in a row."""
    LATE = "late"
    """Its node is suspect or missed its latest probe."""


class Place(msgspec.Struct, frozen=True):
    """One host's place in the order."""

    upstream: Upstream
    reason: Reason
    figures: Figures | None = None
    """None: there was no choice, so nothing was looked up."""

    @property
    def late(self) -> bool:
        """Whether it is asked as a last resort."""
        return self.upstream.rank_last


class _Dice:
    """Draws from one random number, digit by digit; once it is used up, zeros."""

    __slots__ = ("_left",)

    def __init__(self, number: int) -> None:
        self._left = number

    def below(self, limit: int) -> int:
        self._left, digit = divmod(self._left, limit)
        return digit


def order(
    found: Candidates,
    figures: Callable[[Upstream], Figures],
    broken: Set[HostKey],
    sticky: NodeId | None,
    number: int,
) -> tuple[Place, ...]:
    """Return at most `HOSTS_TRIED_MAX` hosts in the order in which they are to be asked.

    `broken`: hosts whose breaker is open. `sticky`: who answered the conversation's last turn. `number`: a
    random one of at least 64 bits.
    """
    dice = _Dice(number)
    places: list[Place] = []
    seen: dict[HostKey, Figures] = {}

    def look(upstream: Upstream) -> Figures:
        known = seen.get(upstream.key)
        if known is None:
            known = seen[upstream.key] = figures(upstream)
        return known

    for reason, group in _groups(found, broken):
        left = HOSTS_TRIED_MAX - len(places)
        if left <= 0:
            break
        favoured = sticky if not places else None
        places.extend(_ordered(group, reason, look, favoured, dice, left))
    return tuple(places)


def _groups(found: Candidates, broken: Set[HostKey]) -> tuple[tuple[Reason, list[Upstream]], ...]:
    able: list[Upstream] = []
    doubtful: list[Upstream] = []
    open_: list[Upstream] = []
    late: list[Upstream] = []
    if found.standings[-1] is Standing.ABLE and not broken:
        return ((Reason.LOAD, list(found.upstreams)),)
    of_standing = {Standing.ABLE: able, Standing.DOUBTFUL: doubtful, Standing.LAST: late}
    for upstream, standing in zip(found.upstreams, found.standings, strict=True):
        group = of_standing[standing]
        (open_ if group is not late and upstream.key in broken else group).append(upstream)
    return (
        (Reason.LOAD, able),
        (Reason.DOUBTFUL, doubtful),
        (Reason.BREAKER, open_),
        (Reason.LATE, late),
    )


def _ordered(
    pool: list[Upstream],
    reason: Reason,
    look: Callable[[Upstream], Figures],
    sticky: NodeId | None,
    dice: _Dice,
    limit: int,
) -> list[Place]:
    places: list[Place] = []
    if sticky is not None:
        kept = next((u for u in pool if u.node_id == sticky), None)
        if kept is not None and _stays(kept, pool, look, dice):
            pool.remove(kept)
            places.append(Place(kept, Reason.CONVERSATION, look(kept)))
    while pool and len(places) < limit:
        at = _draw(pool, look, dice)
        chosen = pool[at]
        pool[at] = pool[-1]
        pool.pop()
        places.append(Place(chosen, reason, look(chosen)))
    return places


def _stays(
    kept: Upstream, pool: list[Upstream], look: Callable[[Upstream], Figures], dice: _Dice
) -> bool:
    """Return whether the conversation stays with its host, or the wait there outweighs the warm prompt."""
    pressure = look(kept).pressure
    if pressure <= STICKY_PRESSURE:
        return True
    other = look(pool[_draw(pool, look, dice)])
    return pressure <= STICKY_SLACK * other.pressure


def _draw(pool: list[Upstream], look: Callable[[Upstream], Figures], dice: _Dice) -> int:
    """Return the place in the pool of the less costly of two drawn at random."""
    count = len(pool)
    if count == 1:
        return 0
    first = dice.below(count)
    second = dice.below(count - 1)
    second += second >= first
    return first if _costs_no_more(look(pool[first]), look(pool[second])) else second


def _costs_no_more(a: Figures, b: Figures) -> bool:
    known = a.ttfb_ms is not None and b.ttfb_ms is not None
    slow_a = max(LATENCY_FLOOR_MS, (a.ttfb_ms if known else a.rtt_ms) or 0.0)
    slow_b = max(LATENCY_FLOOR_MS, (b.ttfb_ms if known else b.rtt_ms) or 0.0)
    return a.pressure * _factor(slow_a, slow_b) <= b.pressure * _factor(slow_b, slow_a)


def _factor(own_ms: float, other_ms: float) -> float:
    """Return by how much a host's slowness against the other multiplies its pressure; 1 within the band."""
    return min(LATENCY_FACTOR_MAX, max(1.0, own_ms / (other_ms * LATENCY_BAND)))
