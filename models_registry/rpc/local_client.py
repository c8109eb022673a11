"""Whether a local connection is a certain process's: the tunnel port's only guard.

Decides by what the system says of the connection's other end: on Linux the kernel names its socket
(`sock_diag`) and /proc/PID/fd says who holds it; elsewhere, and where that cannot be asked, psutil.
What it does not defend is in docs/split.md. Blocks for a moment: for a thread.
"""

import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from models_registry.guard import identity
from models_registry.rpc.sock_diag import Place, inode_of


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
            ours: Place = connection.getsockname()[:2]
            theirs: Place = connection.getpeername()[:2]
            held = self._holds(theirs, ours)
        except (OSError, psutil.Error):
            return False
        # The number may have gone to somebody else meanwhile.
        return held and identity(self.pid) == self.identity

    def _holds(self, theirs: Place, ours: Place) -> bool:
        try:
            inode = inode_of(theirs, ours)
        except OSError:
            held = psutil.Process(self.pid).net_connections("tcp4")
            ends = {(tuple(one.laddr), tuple(one.raddr)) for one in held if one.raddr}
            return (theirs, ours) in ends
        return inode is not None and _has_socket(self.pid, inode)


def _has_socket(pid: int, inode: int) -> bool:
    """Return whether a process has this socket open. Raises: OSError."""
    wanted = f"socket:[{inode}]"
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            if str(descriptor.readlink()) == wanted:
                return True
    return False
