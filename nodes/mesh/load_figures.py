"""Load figures and round trips: how a router's numbers of its peers stay fresh without gossiping them.

Load goes to linked members only: at once when it changes, then again on the next probes in case the first
was lost, never more often than `load_interval_s`; an unchanged load costs nothing. What arrives, and a
round trip that moved, is published with the member's view at most as often, many members together. None
of it touches a version or an incarnation. Source: spec, Announcement (load figures travel apart).
"""

import math

from nodes.mesh import limits
from nodes.mesh.gossip_core import Core, Link
from nodes.mesh.gossip_events import LoadChanged
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import Gossip

LOAD_SENDS = 3
"""Times that one load is sent over one link: one datagram of its own, the others ride on probes."""
_RTT_MOVED_FRACTION = 0.25
_RTT_MOVED_S = 0.001
"""A round trip is news when it moved by a quarter and by a millisecond."""


class LoadFigures:
    """What this node says of its load, and when it shows what others say."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sending = False
        self._sent_at = -math.inf
        self._fresh: dict[NodeId, None] = {}
        self._showing = False
        self._shown_at = -math.inf

    # --- our own ---------------------------------------------------------

    def changed(self, event: LoadChanged) -> None:
        """Take this node's fresh load; the same bytes again are no change."""
        core = self._core
        assert len(event.load) <= limits.LOAD_BYTES_MAX, "load figures are capped by their maker"
        if event.load == core.load:
            return
        core.load = event.load
        for link in core.links.values():
            link.load_sends = LOAD_SENDS
        if not self._sending:
            self._sending = True
            core.timers.at(self._due(self._sent_at), self._send)

    def _due(self, last: float) -> float:
        return max(self._core.now, last + self._core.config.load_interval_s)

    def _send(self, _: None) -> None:
        core = self._core
        self._sending = False
        self._sent_at = core.now
        message = Gossip((), core.load)
        for peer, link in core.links.items():
            if link.load_sends == LOAD_SENDS:
                link.load_sends -= 1
                core.send(peer, message)

    def link_up(self, link: Link) -> None:
        """A new link knows nothing: its first probes carry the load."""
        link.load_sends = LOAD_SENDS - 1 if self._core.load else 0

    # --- others' ---------------------------------------------------------

    def heard(self, link: Link, load: bytes) -> None:
        """A peer told its load (empty: it said nothing about it)."""
        if load and load != link.load:
            link.load = load
            self._show_soon(link.peer)

    def measured(self, link: Link) -> None:
        """A round trip was measured; tell of it when it has moved."""
        rtt, shown = link.rtt_s, link.rtt_shown_s
        assert rtt is not None
        if shown is None or abs(rtt - shown) > max(_RTT_MOVED_S, shown * _RTT_MOVED_FRACTION):
            link.rtt_shown_s = rtt
            self._show_soon(link.peer)

    def _show_soon(self, peer: NodeId) -> None:
        self._fresh[peer] = None
        if not self._showing:
            self._showing = True
            self._core.timers.at(self._due(self._shown_at), self._show)

    def _show(self, _: None) -> None:
        self._showing = False
        self._shown_at = self._core.now
        for peer in self._fresh:
            self._core.touch(peer)
        self._fresh.clear()
