"""Several addresses tried at once, the first proven connection taken (RFC 8305, happy eyeballs).

Decides order and stagger of attempts. Each attempt has its own socket, connected to the address, so
that the kernel tells of a refused port. Knows nothing of meshes: the admission is handed in.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from nodes.runtime.address import Address
from nodes.runtime.connection import CLOSE_NORMAL, CLOSE_TIMEOUT, PeerConnection
from nodes.runtime.dial_errors import (
    REFUSED_PORT,
    TIMED_OUT,
    UNREACHABLE,
    UNRESOLVED,
    AttemptError,
    DialError,
)

ADDRESSES_MAX = 16
"""Addresses tried in one dial, names resolved; further ones are left out."""
_RESOLVED_MAX = 4
GOODBYE_S = 1.0
"""A socket given up is closed so much later: its last packet is on its way."""

Attempt = Callable[[Address], Awaitable[PeerConnection]]


async def dial_any(
    addresses: Sequence[Address], attempt: Attempt, stagger_s: float, timeout_s: float
) -> PeerConnection:
    """Return the first connection that an attempt gives; the other attempts are dropped.

    Raises:
        DialError: every attempt failed, or none was done in time.
    """
    unique = tuple(dict.fromkeys(addresses))[:ADDRESSES_MAX]
    codes: dict[Address, str] = {}
    tasks: dict[asyncio.Task[PeerConnection], Address] = {}
    winner: asyncio.Task[PeerConnection] | None = None
    waiting = list(unique)
    try:
        async with asyncio.timeout(timeout_s):
            while (waiting or tasks) and winner is None:
                if waiting:
                    address = waiting.pop(0)
                    tasks[asyncio.ensure_future(attempt(address))] = address
                done, _ = await asyncio.wait(
                    tasks,
                    timeout=stagger_s if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                winner = _settle(done, tasks, codes)
    except TimeoutError:
        pass
    finally:
        await _drop([task for task in tasks if task is not winner])
    if winner is not None:
        return winner.result()
    raise DialError({address: codes.get(address, TIMED_OUT) for address in unique})


def _settle(
    done: set[asyncio.Task[PeerConnection]],
    tasks: dict[asyncio.Task[PeerConnection], Address],
    codes: dict[Address, str],
) -> asyncio.Task[PeerConnection] | None:
    """Note what failed; return an attempt that succeeded. A second one stays in `tasks` to be dropped."""
    for task in done:
        error = task.exception()
        if error is None:
            return task
        if not isinstance(error, AttemptError):
            raise error
        codes[tasks.pop(task)] = error.code
    return None


async def _drop(tasks: Sequence[asyncio.Task[PeerConnection]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, AttemptError):
            (await task).end(CLOSE_NORMAL, "another address was faster")


async def connect(
    address: Address,
    configuration: QuicConfiguration,
    make_connection: Callable[[QuicConnection], tuple[PeerConnection, asyncio.Future[None]]],
) -> PeerConnection:
    """Return a connection whose both ends are proven.

    `make_connection` gives the connection and a future that is done when it is proven and fails with
    AttemptError when it ends before that.

    Raises:
        AttemptError: `code` says why not.
    """
    loop = asyncio.get_running_loop()
    place = await _resolve(address)
    connection, proven = make_connection(QuicConnection(configuration=configuration))
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: connection, remote_addr=place)
    except OSError as error:
        connection.end(CLOSE_NORMAL, UNREACHABLE)
        raise AttemptError(UNREACHABLE) from error
    finally:
        _forget(proven)
    connection._connection_terminated_handler = transport.close

    def socket_error(error: OSError) -> None:
        # Only while nothing is proven: later it is evidence, and others decide.
        if not connection.is_open and isinstance(error, ConnectionRefusedError):
            connection.end(CLOSE_NORMAL, REFUSED_PORT)
            transport.close()

    connection.on_socket_error = socket_error
    try:
        connection.connect(transport.get_extra_info("peername"))
        await proven
    except BaseException:
        connection.end(CLOSE_TIMEOUT, "given up")
        loop.call_later(GOODBYE_S, transport.close)
        raise
    return connection


def _forget(proven: "asyncio.Future[None]") -> None:
    """Let a failure that nobody waits for any more pass without a warning."""
    proven.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _resolve(address: Address) -> Any:
    """Return the first usable socket address; numbers need no lookup."""
    if address.ip is not None:
        return (address.host, address.port)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise AttemptError(UNRESOLVED) from error
    if not found:
        raise AttemptError(UNRESOLVED)
    return found[0][4][:2]


async def resolved(addresses: Sequence[Address]) -> list[Address]:
    """Return the addresses with names replaced by what they resolve to, in order, without repeats.

    A name that does not resolve stays, so that its attempt can say so.
    """
    loop = asyncio.get_running_loop()
    result: list[Address] = []
    for address in addresses[:ADDRESSES_MAX]:
        if address.ip is not None:
            result.append(address)
            continue
        try:
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            found = []
        numbers = [Address(str(place[4][0]), address.port) for place in found[:_RESOLVED_MAX]]
        result += numbers or [address]
    return list(dict.fromkeys(result))
