"""Every tunable of the bulk lane, with unit, reason, and what happens at the bound."""

from dataclasses import dataclass
from typing import Final

ALPN: Final = b"mesh-lane/1"
VERSION: Final = 1
"""Of the frames; a listener says it first, and a dialler that does not know it hangs up."""
DATA_MAX_BYTES: Final = 256 << 10
"""Content of one DATA frame."""
MESSAGE_MAX_BYTES: Final = 4 << 10
"""One message of a tunnel's two ends to each other."""
OPEN_MAX_BYTES: Final = 16 << 10
"""What a tunnel is for, or what its acceptance says."""
REASON_MAX_BYTES: Final = 200
UNREAD_HIGH_BYTES: Final = 1 << 20
"""Content that came and nobody took yet: from here on the socket is not read."""
UNREAD_LOW_BYTES: Final = 256 << 10
UNSENT_HIGH_BYTES: Final = 1 << 20
"""Bytes that the system did not take yet: from here on a writer waits."""
MESSAGE_COST_BYTES: Final = 256
"""What a message or a mark counts beyond its length, so that empty ones are bounded too."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """The tunables. The defaults suit a LAN and a WAN alike; tests shorten times."""

    connect_timeout_s: float = 3.0
    """TCP's own connection; a port behind a firewall that swallows packets costs this once, then
    `retry_first_s` says when it is tried again."""
    handshake_timeout_s: float = 5.0
    answer_timeout_s: float = 20.0
    """Until the other side accepts or refuses a tunnel: it may wait for the one before to close."""
    write_progress_s: float = 60.0
    """The other side takes nothing for so long: the tunnel is aborted."""
    idle_keep_s: float = 60.0
    """An unused connection is closed by the side that dialled it."""
    idle_accept_s: float = 120.0
    """And by the other side, if the first forgets: longer, so that a reuse never meets a close."""
    retry_first_s: float = 5.0
    retry_longest_s: float = 60.0
    """After TCP failed: when it is tried again, doubling."""
    half_open_max: int = 64
    """Handshakes under way that others began; further ones are closed at once."""
    accepted_max: int = 256
    """Connections that others began, all together; further ones are closed at once."""
    accepted_per_peer_max: int = 64
    dialled_per_peer_max: int = 64
    """Connections to one peer; a further tunnel is refused here."""
    keepalive_idle_s: int = 10
    """TCP keepalive: a connection whose machine is gone ends within about 30 s."""
    unanswered_s: int = 20
    """TCP_USER_TIMEOUT, where the system has it: sent bytes that are not acknowledged for so long."""
