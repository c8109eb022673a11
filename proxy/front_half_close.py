"""Is a client that ended its input still listening?

A closed socket and a half-closed one look alike until something is written: who has gone answers
with a reset. Before an answer has begun an interim response (RFC 9110 section 15.2) is that
something, in a stream of events a comment line, else the answer's own bytes. The event loops do not
report a reset of a socket whose input has ended, so the socket is asked, a few times a second, for
such clients alone.
"""

import asyncio
import socket
from collections.abc import Callable

POLL_INTERVAL_S = 0.05
"""How often the socket is asked."""


def watch_half_closed(
    transport: asyncio.Transport, probe_after_s: float, probe_bytes: Callable[[], bytes]
) -> None:
    """Abort the transport once its client turns out gone.

    `probe_bytes` returns what can be written now without harm to the answer; empty: nothing.
    """
    loop = asyncio.get_running_loop()
    sock = transport.get_extra_info("socket")

    def probe() -> None:
        if not transport.is_closing():
            transport.write(probe_bytes())
            loop.call_later(POLL_INTERVAL_S, poll)

    def poll() -> None:
        if transport.is_closing():
            return
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            transport.abort()
        else:
            loop.call_later(POLL_INTERVAL_S, poll)

    loop.call_later(probe_after_s, probe)
