"""Does the peer behind a stream still live? Asked while streams wait on it, answered well within a second.

QUIC itself notices a dead peer only at its idle timeout. Here a connection with open streams that has
been quiet is pinged; where the peer's machine answers that the port is closed, twice, its streams are
aborted as LINK_LOST. Mere silence takes `SILENT_MAX_S`: a stalled peer is not a dead one, and where
there is gossip it decides sooner. Knows nothing of membership. Source: RFC 9000 section 10.1.2.
"""

import asyncio
from dataclasses import dataclass, field

from nodes.runtime.connection import PeerConnection
from nodes.runtime.link import Link
from nodes.runtime.port_probe import PortAnswer, probe_port
from nodes.runtime.streams import AbortCode, Stream
from nodes.runtime.tasks import TaskSet

PERIOD_S = 0.25
"""How often connections with open streams are looked at, and how long one may be quiet unasked."""
REFUSED_AGAIN_S = 0.05
"""From a refused port to the ping that confirms it: one stray ICMP answer is not seen twice."""
REFUSALS_KEPT_S = 2.0
"""Two refusals further apart than this confirm nothing."""
SILENT_MAX_S = 5.0
"""No packet at all for so long, though asked: lost. Longer than gossip on a LAN needs (2 to 4 s)."""
STALL_S = 1.0
"""A look that comes so late means that this process stood still: what seems missed is no evidence."""


@dataclass(eq=False, slots=True)
class _Watched:
    """One connection."""

    link: Link
    since_s: float
    """Loop time from which silence counts."""
    streams: set[Stream] = field(default_factory=set)
    refused_s: float | None = None
    probing: bool = False


class LinkWatch:
    """Watches the connections of the streams it was given, as long as they are open."""

    def __init__(self) -> None:
        self._watched: dict[PeerConnection, _Watched] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._tasks = TaskSet()

    def add(self, link: Link, stream: Stream) -> None:
        """Watch for this stream until it is closed."""
        connection = stream.carrier
        assert isinstance(connection, PeerConnection)
        watched = self._watched.get(connection)
        if watched is None:
            watched = self._watched[connection] = _Watched(link, self._loop.time())
            connection.on_refused = lambda: self._refused(connection)
        watched.streams.add(stream)
        if self._timer is None:
            self._arm()

    def close(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in tuple(self._watched):
            self._forget(connection)

    def _arm(self) -> None:
        self._due_s = self._loop.time() + PERIOD_S
        self._timer = self._loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        stalled = now_s - self._due_s > STALL_S
        for connection, watched in tuple(self._watched.items()):
            watched.streams = {stream for stream in watched.streams if not stream.closed}
            if not watched.streams:
                self._forget(connection)
                continue
            if stalled:
                watched.since_s = now_s
            self._judge(connection, watched, now_s)
        if self._watched:
            self._arm()

    def _judge(self, connection: PeerConnection, watched: _Watched, now_s: float) -> None:
        quiet_s = now_s - max(connection.last_received_s, watched.since_s)
        if quiet_s < PERIOD_S / 2:
            return
        if quiet_s >= SILENT_MAX_S:
            self._lost(connection, f"the peer has been silent for {quiet_s:.1f} s")
            return
        connection.nudge()
        if not connection.dialled and not watched.probing:
            # On a socket of many peers a refusal is not seen: a socket of its own asks.
            watched.probing = True
            self._tasks.spawn(self._probe(connection, watched))

    def _refused(self, connection: PeerConnection) -> None:
        """The peer's machine says that nothing listens there any more."""
        watched = self._watched.get(connection)
        if watched is None:
            return
        now_s = self._loop.time()
        first_s = watched.refused_s
        stale = first_s is None or now_s - first_s > REFUSALS_KEPT_S
        if first_s is None or stale or connection.last_received_s > first_s:
            watched.refused_s = now_s
            self._loop.call_later(REFUSED_AGAIN_S, self._ask_again, connection)
        elif now_s - first_s >= REFUSED_AGAIN_S / 2:
            self._lost(connection, "the peer's machine says that its port is closed")

    def _ask_again(self, connection: PeerConnection) -> None:
        if connection in self._watched and connection.dialled:
            connection.nudge()

    async def _probe(self, connection: PeerConnection, watched: _Watched) -> None:
        """Ask the port where the peer listens; twice, if it is refused."""
        try:
            address = watched.link.listen_address()
            if address is None or await probe_port(address) is not PortAnswer.REFUSED:
                return
            asked_s = self._loop.time()
            await asyncio.sleep(REFUSED_AGAIN_S)
            again = await probe_port(address) is PortAnswer.REFUSED
            if again and connection.last_received_s <= asked_s:
                self._lost(connection, "the peer's machine says that its port is closed")
        finally:
            watched.probing = False

    def _lost(self, connection: PeerConnection, reason: str) -> None:
        watched = self._forget(connection)
        for stream in watched.streams if watched is not None else ():
            stream.abort(AbortCode.LINK_LOST, reason)

    def _forget(self, connection: PeerConnection) -> _Watched | None:
        connection.on_refused = lambda: None
        return self._watched.pop(connection, None)
