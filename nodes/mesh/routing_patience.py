"""How long a request waits for the first byte of a host on another machine.

A long prompt on a CPU takes minutes in silence, so a clock alone cannot tell it from a dead host. What
tells them apart is whether the host is heard of otherwise: by gossip's probes (`Upstream.rank_last`, gone
from the table) and by its link. So a host that shows signs of life is waited for; one that does not is
given up after a patience that grows with what has been invested, if somebody else can answer; one that was
asked as a last resort gets a short deadline. Source: docs/decisions/0006-first-byte-patience.md.
"""

from enum import Enum

from nodes.mesh.routing import ModelState, Upstream

LINK_HEARD_S = 1.0
"""A link over which something came so lately proves the node alive, whatever one lost probe says of it.
Links with waiting streams are pinged when they have been quiet for a quarter of this."""
LINK_SILENT_S = 3.0
"""A link over which nothing came for so long, keep-alives included, shows no sign of life."""
LATE_PATIENCE_S = 1.0
"""A host without signs of life is waited for at least so long: most stalls are shorter."""
LATE_PATIENCE_SHARE = 0.1
"""... and at least this share of the time already spent waiting: so much work would be thrown away."""
LATE_PATIENCE_MAX_S = 6.0
"""... and at most so long: by then the death is declared where it is one (spec, Pinned 11)."""
LAST_RESORT_FIRST_BYTE_S = 3.0
"""A host that was late when it was asked must come back or answer within this: a stall of 2 s is bridged."""


class Verdict(Enum):
    """Whether to go on waiting."""

    WAIT = "wait"
    GONE = "gone"
    """Its node is dead or has left, or it no longer serves the model."""
    SILENT = "silent"
    """No sign of life for longer than the patience."""


class FirstByteWait:
    """One request waiting for one host's first byte. Times are seconds of one monotonic clock."""

    __slots__ = ("_began_s", "_last_resort", "_late_since_s", "_others")

    def __init__(self, last_resort: bool, others: bool, now: float) -> None:
        """`last_resort`: the host was late already; `others`: a host that is not late is left to ask."""
        self._last_resort = last_resort
        self._others = others
        self._began_s = now
        self._late_since_s: float | None = now if last_resort else None

    def look(self, current: Upstream | None, silent_s: float | None, now: float) -> Verdict:
        """Return what to do, given the host in the table of now and its link's silence, where known."""
        if current is None or current.state not in (ModelState.READY, ModelState.DRAINING):
            return Verdict.GONE
        if _shows_life(current, silent_s):
            self._late_since_s = None
            self._last_resort = False
            return Verdict.WAIT
        if self._late_since_s is None:
            self._late_since_s = now
        patience_s = self._patience_s(now)
        late = patience_s is not None and now - self._late_since_s >= patience_s
        return Verdict.SILENT if late else Verdict.WAIT

    def _patience_s(self, now: float) -> float | None:
        """None: there is nothing to gain by giving up, so wait for the verdict on the node's life."""
        if self._last_resort and not self._others:
            return LAST_RESORT_FIRST_BYTE_S
        if not self._others:
            return None
        invested_s = now - self._began_s
        return min(LATE_PATIENCE_MAX_S, max(LATE_PATIENCE_S, invested_s * LATE_PATIENCE_SHARE))


def _shows_life(current: Upstream, silent_s: float | None) -> bool:
    if silent_s is None:
        return not current.rank_last
    return silent_s <= LINK_HEARD_S or (silent_s <= LINK_SILENT_S and not current.rank_last)
