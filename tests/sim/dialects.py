"""Nodes that speak the protocol's version before, or the next one, in one mesh with ours.

An old node is ours with its wire narrowed in both directions to what version N-1 knew: shorter arrays, no
notices, no load. A new one is ours with a field more in every array that it sends and an update of a kind
nobody knows. What they decide is the same; only bytes differ.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from nodes.mesh import codec
from nodes.mesh.gossip import GossipNode
from tests.sim.cluster import Birth, Make, bare
from tests.sim.parts import Core

_FIELDS_BEFORE = {1: 3, 2: 3, 3: 4, 4: 3, 5: 3, 6: 2, 20: 3}
"""Tag to length, tag included, where version N-1 had fewer fields."""
_UPDATES_AT = {1: 2, 2: 2, 3: 3, 4: 2, 5: 2, 6: 1, 20: 3, 21: 2}
"""Tag to the place of embedded updates."""
_CLAIM, _ACCUSATION, _NOTICE = 1, 2, 3
_ACCUSATION_FIELDS_BEFORE = 5
_LATER_UPDATE = [77, "an update of a later version"]

Translate = Callable[[bytes], bytes]


def _rewritten(data: bytes, version: int, change: Callable[[list[Any]], list[Any]]) -> bytes:
    """Return the bytes with message and version changed; embedded records stay as they were signed."""
    return bytes([version]) + msgspec.msgpack.encode(change(msgspec.msgpack.decode(data[1:])))


def narrowed(data: bytes) -> bytes:
    """Return a message as version N-1 would write it, or read it."""

    def change(message: list[Any]) -> list[Any]:
        tag = message[0]
        at = _UPDATES_AT.get(tag)
        if at is not None and len(message) > at:
            known = [u for u in message[at] if u[0] in (_CLAIM, _ACCUSATION)]
            message[at] = [
                u[:_ACCUSATION_FIELDS_BEFORE] if u[0] == _ACCUSATION else u for u in known
            ]
        return message[: _FIELDS_BEFORE.get(tag, len(message))]

    return _rewritten(data, codec.WIRE_VERSION - 1, change)


def widened(data: bytes) -> bytes:
    """Return a message as version N+1 might write it."""

    def change(message: list[Any]) -> list[Any]:
        at = _UPDATES_AT.get(message[0])
        if at is not None and len(message) > at and message[0] < 16:
            longer = [[*update, "new"] for update in message[at]][:20]
            message[at] = [*longer, _LATER_UPDATE]
        return [*message, "new", 1.5] if at is None or len(message) > at else message

    return _rewritten(data, codec.WIRE_VERSION + 1, change)


class Speaker:
    """A `GossipNode` whose bytes are translated on their way in and out."""

    def __init__(self, gossip: GossipNode, hears: Translate, says: Translate) -> None:
        self._gossip = gossip
        self._hears = hears
        self._says = says

    @property
    def deadline(self) -> float | None:
        """Of what is inside."""
        return self._gossip.deadline

    def handle(self, event: Any, now: float) -> list[Any]:
        """Return what is inside wants, its bytes in this dialect."""
        if hasattr(event, "data"):
            event = replace(event, data=self._hears(event.data))
        effects: list[Any] = self._gossip.handle(event, now)
        return [replace(e, data=self._says(e.data)) if hasattr(e, "data") else e for e in effects]


def _same(data: bytes) -> bytes:
    return data


@dataclass(frozen=True)
class Mixed:
    """Builds nodes by their number: one in three old, one current, one new."""

    def __call__(self, birth: Birth) -> tuple[Core, GossipNode]:
        """Return the process."""
        core, gossip = bare(birth)
        match int(birth.name[1:]) % 3:
            case 0:
                return Speaker(gossip, narrowed, narrowed), gossip
            case 1:
                return core, gossip
            case _:
                return Speaker(gossip, _same, widened), gossip


mixed: Make = Mixed()
