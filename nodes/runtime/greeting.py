"""The first exchange on each member connection: which process speaks, and what the connection is for.

The dialling side opens a stream of kind `hello`; the other side answers on it. An `instance` is drawn
anew by each process, so a restarted peer is told from the same one dialling again, and two running
processes with one key are noticed. Clocks are exchanged for `doctor`. Unknown fields are ignored.
"""

import secrets
import time

import msgspec

from nodes.runtime.streams import Stream, StreamAbortedError
from nodes.runtime.unpack import UNPACK_FAULTS

HELLO_KIND = "hello"
HELLO_MAX_BYTES = 1024
PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_VERSION = 1
INSTANCE = secrets.token_bytes(8)
"""This process."""


class Hello(msgspec.Struct, kw_only=True):
    """What each side says first."""

    version: int = PROTOCOL_VERSION
    oldest_version: int = OLDEST_PROTOCOL_VERSION
    instance: bytes = b""
    extra: bool = False
    """True: one more connection of a link that is up, for more streams."""
    listen_port: int = 0
    """UDP port where this node can be dialled; 0: it cannot."""
    software: str = ""
    clock_s: float = 0.0
    """Unix time at the sender."""


class GreetingError(Exception):
    """The other side did not greet as it must; `str()` is the word for logs."""


def hello(instance: bytes, *, extra: bool, listen_port: int, software: str) -> Hello:
    """Return this side's greeting."""
    return Hello(
        instance=instance, extra=extra, listen_port=listen_port, software=software[:64],
        clock_s=time.time(),
    )  # fmt: skip


async def greet(stream: Stream, mine: Hello, timeout_s: float) -> Hello:
    """Return the other side's greeting after sending `mine`; for the dialling side.

    Raises:
        GreetingError: it gave none in time, or one that we cannot work with.
    """
    try:
        await stream.write(msgspec.msgpack.encode(mine))
        stream.end()
        return _checked(await stream.read_all(HELLO_MAX_BYTES, timeout_s))
    except StreamAbortedError as error:
        raise GreetingError(error.reason) from error


async def answer(stream: Stream, mine: Hello, timeout_s: float) -> Hello:
    """Return the dialling side's greeting after answering it with `mine`.

    Raises:
        GreetingError: as for `greet`.
    """
    try:
        theirs = _checked(await stream.read_all(HELLO_MAX_BYTES, timeout_s))
        await stream.write(msgspec.msgpack.encode(mine))
    except StreamAbortedError as error:
        raise GreetingError(error.reason) from error
    stream.end()
    return theirs


def _checked(content: bytes) -> Hello:
    try:
        theirs = msgspec.msgpack.decode(content, type=Hello)
    except UNPACK_FAULTS as error:
        raise GreetingError("malformed hello") from error
    if theirs.oldest_version > PROTOCOL_VERSION or theirs.version < OLDEST_PROTOCOL_VERSION:
        raise GreetingError("no common protocol version")
    if len(theirs.instance) != 8 or not 0 <= theirs.listen_port <= 65535:
        raise GreetingError("malformed hello")
    return theirs
