"""What a peer sees of us, asked over the link: can it reach our addresses, and how far apart are the clocks?

Decides nothing. One stream of kind `DOCTOR_KIND`: the asker names its own addresses, the peer sends each
one packet (`port_probe`) and tells what came back and what its clock says. Members only; bounded.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from nodes.mesh import limits
from nodes.runtime.address import Address
from nodes.runtime.credentials import Role
from nodes.runtime.link import Link
from nodes.runtime.port_probe import probe_port
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from nodes.runtime.unpack import UNPACK_FAULTS

DOCTOR_KIND = "doctor"
_MAX_BYTES = 4096
_TIMEOUT_S = 5.0
PROBE_S = 1.0
"""How long one packet's answer is waited for: longer than gossip does, a person has the time."""
SKEW_MAX_S = 60.0
"""A larger difference of the clocks ends credentials and tokens too early or too late."""

_Text = Annotated[str, Meta(max_length=limits.ADDRESS_CHARS_MAX)]


class _Ask(msgspec.Struct):
    addresses: Annotated[tuple[_Text, ...], Meta(max_length=limits.ADDRESSES_MAX)]


class _Answer(msgspec.Struct):
    unix_s: float
    found: Annotated[dict[_Text, _Text], Meta(max_length=limits.ADDRESSES_MAX)]


@dataclass(frozen=True, slots=True)
class PeerReport:
    """What one peer says of the way to us."""

    found: dict[str, str]
    """Our address -> ``answered``, ``refused`` or ``silent``, as seen from there."""
    skew_s: float
    """Its clock less ours."""
    rtt_ms: float


async def probe_all(addresses: Sequence[str]) -> dict[str, str]:
    """Return what each address answers to one packet from here; malformed ones are ``malformed``."""

    async def one(text: str) -> str:
        try:
            address = Address.parse(text)
        except ValueError:
            return "malformed"
        return (await probe_port(address, PROBE_S)).value

    answers = await asyncio.gather(*(one(text) for text in addresses))
    return dict(zip(addresses, answers, strict=True))


async def answer(link: Link, stream: Stream) -> None:
    """Serve one stream of kind `DOCTOR_KIND`."""
    if link.role is not Role.MEMBER:
        stream.abort(AbortCode.REFUSED, "the doctor is for full members")
        return
    try:
        asked = msgspec.msgpack.decode(await stream.read_all(_MAX_BYTES, _TIMEOUT_S), type=_Ask)
    except UNPACK_FAULTS:
        stream.abort(AbortCode.REFUSED, "malformed question")
        return
    unix_s = time.time()
    found = await probe_all(asked.addresses)
    await stream.write(msgspec.msgpack.encode(_Answer(unix_s, found)))
    stream.end()


async def ask(link: Link, own: Sequence[str]) -> PeerReport | None:
    """Return what the peer says; None: it did not answer."""
    try:
        stream = await link.open_stream(DOCTOR_KIND)
        began_s, sent_s = time.time(), time.monotonic()
        await stream.write(msgspec.msgpack.encode(_Ask(tuple(own[: limits.ADDRESSES_MAX]))))
        stream.end()
        told = msgspec.msgpack.decode(await stream.read_all(_MAX_BYTES, _TIMEOUT_S), type=_Answer)
    except (StreamAbortedError, *UNPACK_FAULTS):
        return None
    rtt_s = link.rtt_s if link.rtt_s is not None else time.monotonic() - sent_s
    return PeerReport(told.found, told.unix_s - began_s - rtt_s / 2, rtt_s * 1000)
