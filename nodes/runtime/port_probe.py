"""Is a UDP port open? Asked with one packet from a connected socket, where ICMP answers can be seen.

A port that the peer's machine refuses is evidence, not silence: the process is gone while the machine
lives. The packet is a QUIC long header of a version reserved for this (RFC 9000 section 15), which
any QUIC server answers with the versions it knows, so three answers are told apart. Unauthenticated:
a hint to be confirmed, never a proof of life.
"""

import asyncio
import os
import socket
from enum import StrEnum
from typing import Any

from nodes.runtime.address import Address

PROBE_TIMEOUT_S = 0.3
_RESERVED_VERSION = bytes.fromhex("1a2a3a4a")
_PROBE_BYTES = 64


class PortAnswer(StrEnum):
    """What came back."""

    REFUSED = "refused"
    """The machine answers that nothing listens there."""
    ANSWERED = "answered"
    """Something that speaks QUIC listens there."""
    SILENT = "silent"
    """Nothing in time: lost, filtered, or the machine is off."""


class _ProbeProtocol(asyncio.DatagramProtocol):
    def __init__(self, answer: asyncio.Future[PortAnswer]) -> None:
        self._answer = answer

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._settle(PortAnswer.ANSWERED)

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionRefusedError):
            self._settle(PortAnswer.REFUSED)

    def _settle(self, answer: PortAnswer) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)


async def probe_port(address: Address, timeout_s: float = PROBE_TIMEOUT_S) -> PortAnswer:
    """Return what the port answers to one packet. An address that cannot be sent to is SILENT."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[PortAnswer] = loop.create_future()
    try:
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _ProbeProtocol(answer), remote_addr=(address.host, address.port)
        )
    except (OSError, socket.gaierror):
        return PortAnswer.SILENT
    try:
        # Long header, reserved version, 8-byte connection ids; the rest means nothing.
        head = b"\xc0" + _RESERVED_VERSION + b"\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
        transport.sendto(head.ljust(_PROBE_BYTES, b"\0"))
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError:
        return PortAnswer.SILENT
    finally:
        transport.close()
