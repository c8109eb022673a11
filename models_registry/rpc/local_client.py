"""Whether a local connection is a certain process's: the tunnel port's only guard.

Decides by what the system says of the two ends (on Linux /proc/net/tcp and /proc/PID/fd, read by
psutil; elsewhere its own means). What that does not defend is in docs/split.md. Blocks for some
milliseconds: for a thread.
"""

import socket
from dataclasses import dataclass

import psutil

from models_registry.guard import identity

_Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LocalClient:
    """The process that may connect, told from any other that ever has its number."""

    pid: int
    identity: str
    """See `models_registry.guard.identity`."""

    @classmethod
    def of(cls, pid: int) -> "LocalClient | None":
        """Return the process that has this number now; None: there is none."""
        known = identity(pid)
        return cls(pid, known) if known is not None else None

    def holds(self, connection: socket.socket) -> bool:
        """Return whether the other end of an accepted connection is this process's."""
        try:
            ours: _Place = connection.getsockname()[:2]
            theirs: _Place = connection.getpeername()[:2]
            held = psutil.Process(self.pid).net_connections("tcp4")
        except (OSError, psutil.Error):
            return False
        ends = {(tuple(one.laddr), tuple(one.raddr)) for one in held if one.raddr}
        # The number may have gone to somebody else meanwhile.
        return (theirs, ours) in ends and identity(self.pid) == self.identity
