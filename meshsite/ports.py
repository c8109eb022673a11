"""Binding the ports a node listens on, with errors a person understands."""

import errno
import socket
from collections.abc import Iterable
from typing import Any

CONSOLE_PORTS_TRIED = 100
"""How far above 3131 a free console port is looked for when none was given."""

BACKLOG = 1024


class PortError(Exception):
    """A port cannot be had; the text says which and what to do."""


def bind(host: str, port: int, *, what: str, flag: str) -> list[socket.socket]:
    """Return sockets bound to every address of `host` (localhost is both families where it has them).

    Raises:
        PortError: the port is taken, not allowed, or the address is not of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise PortError(f"--host {host} is not an address of this machine: {error}.") from error
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bound(family, kind, protocol, address))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                missing = error  # `localhost` names ::1 where there is no IPv6 too.
                continue
            _close(sockets)
            raise PortError(_why(error, host, port, what, flag)) from error
    if not sockets:
        assert missing is not None
        raise PortError(_why(missing, host, port, what, flag)) from missing
    return sockets


def _bound(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def bind_console(host: str, port: int, *, given: bool) -> list[socket.socket]:
    """Return sockets for the console: the port, or the next free one unless it was `given`."""
    last = port if given else min(port + CONSOLE_PORTS_TRIED, 65535)
    for candidate in range(port, last + 1):
        try:
            return bind(host, candidate, what="console", flag="--console")
        except PortError as error:
            cause = error.__cause__
            taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
            if candidate == last or not taken:
                raise
    raise AssertionError("unreachable: the last candidate returns or raises")


def port_of(sockets: Iterable[socket.socket]) -> int:
    """Return the port that the first socket is bound to."""
    return int(next(iter(sockets)).getsockname()[1])


def _close(sockets: Iterable[socket.socket]) -> None:
    for made in sockets:
        made.close()


def _why(error: OSError, host: str, port: int, what: str, flag: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} for the {what} is taken by another program. "
            f"Choose another with {flag} PORT, or stop what uses it (`ss -ltnp | grep {port}`)."
        )
    if error.errno == errno.EACCES:
        return (
            f"Port {port} for the {what} needs privileges; choose one above 1023 with {flag} PORT."
        )
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"--host {host} is not an address of this machine."
    return f"Port {port} for the {what} cannot be opened: {error.strerror or error}."
