"""One gossip node on the bench: events in by hand, time by hand, effects out."""

import random
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from nodes.mesh import codec
from nodes.mesh.config import GossipConfig, lan
from nodes.mesh.events import TimePassed
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_effects import GossipEffect, SendAnswer, SendDatagram, SendRequest
from nodes.mesh.gossip_events import GossipEvent, LinkId, LinkUp, RequestId, RequestReceived
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import Datagram, Exchange, StreamMessage
from nodes.mesh.records import Record, make_record
from tests.sim.cluster import announcement
from tests.sim.identities import identity, node_id_of

T = TypeVar("T")


class Bench:
    """A node whose clock stands until `run`; `told` keeps every effect with its time."""

    def __init__(
        self, name: str = "n0000", config: GossipConfig | None = None, life: int = 0
    ) -> None:
        self.now = 100.0
        self._asked = 0
        self.node = GossipNode(
            identity(name, life), announcement(name, f"{name}:1", 8), 1_000_000, config or lan(),
            random.Random(name), self.now,
        )  # fmt: skip
        self.told: list[tuple[float, GossipEffect]] = []

    def give(self, event: GossipEvent) -> list[GossipEffect]:
        effects = self.node.handle(event, self.now)
        self.told.extend((self.now, effect) for effect in effects)
        return effects

    def run(self, duration_s: float) -> list[GossipEffect]:
        """Let time pass, deadline by deadline; return what was wanted meanwhile."""
        end, before = self.now + duration_s, len(self.told)
        while self.node.deadline <= end:
            self.now = max(self.now, self.node.deadline)
            self.give(TimePassed())
        self.now = end
        return [effect for _, effect in self.told[before:]]

    def link(self, name: str, number: int = 1, dialled: bool = False) -> list[GossipEffect]:
        return self.give(LinkUp(node_id_of(name), LinkId(number), dialled, f"{name}:1"))

    def hear_record(self, heard: Record, source: str = "n0009") -> list[GossipEffect]:
        """Have a linked peer hand in somebody's record over a stream."""
        if node_id_of(source) not in self.node.linked:
            self.link(source, 9)
        return self.ask(Exchange((msgspec.Raw(heard.line),)), source)[1]

    def ask(
        self, message: StreamMessage, source: str = "n0009"
    ) -> tuple[StreamMessage | None, list[GossipEffect]]:
        """Have a linked peer ask over a stream; return the answer (None: refused) and all effects."""
        self._asked += 1
        data = codec.encode(message)
        effects = self.give(RequestReceived(node_id_of(source), RequestId(self._asked), data))
        answers = [codec.decode_stream(e.data) for e in effects if isinstance(e, SendAnswer)]
        return (answers[0] if answers else None), effects

    def know(self, names: Iterable[str]) -> None:
        """Have these in the table from the start."""
        self.node.restore(record(name) for name in names)


def record(
    name: str, incarnation: int = 1_000_000, version: int = 0, life: int = 0, left: bool = False
) -> Record:
    """Return what a node of this name says of itself."""
    said = announcement(name, f"{name}:1", 8)
    return make_record(identity(name, life), said, incarnation, version, left)


def requests(effects: Iterable[GossipEffect]) -> list[tuple[SendRequest, StreamMessage]]:
    return [(e, codec.decode_stream(e.data)) for e in effects if isinstance(e, SendRequest)]


def datagrams(effects: Iterable[GossipEffect]) -> list[tuple[NodeId, Datagram]]:
    return [(e.peer, codec.decode_datagram(e.data)) for e in effects if isinstance(e, SendDatagram)]


def of(effects: Iterable[GossipEffect], kind: type[T]) -> list[T]:
    return [e for e in effects if isinstance(e, kind)]
