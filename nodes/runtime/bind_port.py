"""The UDP port of the peer link: chosen at random once, then remembered, so that invite tokens stay good.

Kept in the home (file `quic_port`). A port given by the operator wins and is remembered too. Knows
nothing of QUIC: it binds, and hands the bound socket over.
"""

import contextlib
import errno
import socket
from dataclasses import dataclass
from pathlib import Path

from nodes.runtime import private_file

PORT_FILE = "quic_port"
RECEIVE_BUFFER_BYTES = 1 << 20
"""Asked of the kernel, which may give less: a burst from many peers waits here while the loop is busy."""
_WHAT = "the remembered QUIC port"


class BindPortError(Exception):
    """The UDP port cannot be had. The text is one sentence for a person, with what to do."""


@dataclass(frozen=True, slots=True)
class BoundPort:
    """One bound UDP socket."""

    sock: socket.socket
    port: int
    moved: bool
    """True when the remembered port was taken and another one is used: older tokens point elsewhere."""


def bind(home: Path | None, host: str | None = None, port: int | None = None) -> BoundPort:
    """Return a bound UDP socket: on `port`, else on the remembered one, else on a free one.

    `host` None binds all addresses, IPv4 and IPv6 where there is IPv6. `home` None remembers nothing.

    Raises:
        BindPortError: the given port is taken, or no socket can be bound at this address.
    """
    if port is not None:
        try:
            sock = _bound(host, port)
        except OSError as error:
            raise BindPortError(
                f"UDP port {port} cannot be bound ({error.strerror or error}): stop what uses it, "
                "or give another one with --bind-port."
            ) from error
        return _kept(home, sock, moved=False)
    remembered = _remembered(home)
    if remembered is not None:
        with contextlib.suppress(OSError):
            return _kept(home, _bound(host, remembered), moved=False)
    try:
        return _kept(home, _bound(host, 0), moved=remembered is not None)
    except OSError as error:
        raise BindPortError(
            f"no UDP port can be bound at {host or 'this machine'} ({error.strerror or error}): "
            "check --bind-ip."
        ) from error


def _bound(host: str | None, port: int) -> socket.socket:
    if host is None:
        try:
            return _bound_family(socket.AF_INET6, "::", port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            return _bound_family(socket.AF_INET, "0.0.0.0", port)  # noqa: S104 - the default by design
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    return _bound_family(family, str(place[0]), port)


def _bound_family(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _kept(home: Path | None, sock: socket.socket, *, moved: bool) -> BoundPort:
    port = int(sock.getsockname()[1])
    if home is not None and _remembered(home) != port:
        # A port that cannot be remembered is still a port: the next start merely takes another one.
        with contextlib.suppress(private_file.PrivateFileError):
            private_file.write(home / PORT_FILE, f"{port}\n".encode(), _WHAT)
    return BoundPort(sock, port, moved)


def _remembered(home: Path | None) -> int | None:
    if home is None:
        return None
    try:
        content = private_file.read(home / PORT_FILE, _WHAT) or b""
        port = int(content.decode("ascii").strip() or "0")
    except (private_file.PrivateFileError, ValueError):
        return None
    return port if 1 <= port <= 65535 else None
