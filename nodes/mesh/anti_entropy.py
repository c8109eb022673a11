"""Push-pull: two tables are made equal; and the pulling of bodies that gossip only named.

A sync costs one small round trip where the tables' hashes are equal. Otherwise the answerer sends
(id, incarnation, version, state) of all it knows and the asker sends and fetches the differences. Learning
the whole table from a sync is not gossiped on: those it came from have it. Deaths in a digest are
accusations like any other. Source: memberlist (push-pull), Demers et al. 1987; spec (bodies by digest).
"""

from collections.abc import Callable

import msgspec

from nodes.mesh import codec, limits
from nodes.mesh.dead_peers import DeadPeer
from nodes.mesh.gossip_core import Core, Link
from nodes.mesh.ids import NodeId
from nodes.mesh.membership import Membership
from nodes.mesh.messages import (
    Accusation,
    CheckAnswer,
    Digests,
    Exchange,
    InSync,
    Records,
    StreamMessage,
    Sync,
)
from nodes.mesh.records import Record, parse_record

_FRAME_BUDGET_BYTES = limits.STREAM_FRAME_BYTES_MAX - 262_144
"""For records; the rest of a frame holds accusations and notices."""
_UPDATES_PER_FRAME = 300
_FEW = 16
_ALIVE, _GONE = 0, 1
HearUpdates = Callable[[NodeId, tuple[msgspec.Raw, ...]], None]


class AntiEntropy:
    """The syncs and pulls of one node."""

    def __init__(self, core: Core, membership: Membership, hear_updates: HearUpdates) -> None:
        self._core = core
        self._membership = membership
        self._hear_updates = hear_updates
        self._syncing: dict[NodeId, Link | None] = {}
        """With whom, and over which link it was begun; None: it dialled."""
        self._wants: dict[NodeId, NodeId] = {}
        self._pulling = False
        self.notices: Callable[[], tuple[bytes, ...]] = tuple
        self.notices_lacking: Callable[[tuple[msgspec.Raw, ...]], list[bytes]] = lambda theirs: []
        self._next_round()

    # --- in turn ---------------------------------------------------------

    def _next_round(self) -> None:
        core = self._core
        wait = core.config.sync_interval_s * core.rng.uniform(0.67, 1.33)
        core.timers.at(core.now + wait, self._round)

    def _round(self, _: None) -> None:
        peers = [p for p in self._core.links if p in self._core.members]
        if peers:
            self.sync(self._core.rng.choice(peers))
        self._next_round()

    # --- a new link ------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """Exchange tables over a new link: the dialling end begins; a sync over an older link is moot."""
        if link.dialled:
            if self._syncing.get(link.peer) is not None:
                del self._syncing[link.peer]
            self.sync(link.peer)
        self._greet_later(link, self._core.config.redial_min_s)

    def _greet_later(self, link: Link, wait_s: float) -> None:
        core = self._core
        core.timers.at(core.now + wait_s, lambda _: self._greet(link, wait_s))

    def _greet(self, link: Link, wait_s: float) -> None:
        """A link whose peer is no member yet lost its first exchange: without this nobody would repeat it."""
        core = self._core
        if core.links.get(link.peer) is not link or link.peer in core.members or core.leaving:
            return
        self.sync(link.peer)
        self._greet_later(link, min(wait_s * 2, core.config.redial_max_s))

    # --- asking ----------------------------------------------------------

    def sync(self, peer: NodeId, discover: bool = True,
             on_done: Callable[[bool], None] = lambda heard: None) -> None:  # fmt: skip
        """Make the tables equal. `discover` False: refresh what both know, no new member for either."""
        core = self._core
        if peer in self._syncing:
            return
        begun = self._syncing[peer] = core.links.get(peer)

        def on_answer(answer: StreamMessage | None, _refused: bool) -> None:
            if peer in self._syncing and self._syncing[peer] is begun:
                del self._syncing[peer]
            heard = isinstance(answer, InSync | Digests)
            if isinstance(answer, InSync | Digests):
                self._learn_one(answer.me, peer)
            if isinstance(answer, Digests):
                self._compare(peer, answer, discover)
            on_done(heard)

        message = Sync(msgspec.Raw(core.me.line), core.table_hash)
        core.request(core.contact(peer), message, core.config.sync_timeout_s, on_answer)

    def _learn_one(self, raw: msgspec.Raw, source: NodeId) -> None:
        record = parse_record(bytes(raw))
        if record is None:
            self._core.counters["records_broken"] += 1
        elif record.node_id == source:
            self._membership.learn(record, source)

    def _compare(self, peer: NodeId, digests: Digests, discover: bool) -> None:
        """Send what the peer lacks and fetch what this node lacks."""
        core = self._core
        theirs: set[NodeId] = set()
        wants: list[bytes] = []
        accused: list[bytes] = []
        newer_here: list[Record] = []
        for raw_id, incarnation, version, state in self._rows(digests):
            node_id = NodeId(raw_id.hex())
            theirs.add(node_id)
            if state == _GONE:
                self._peer_says_dead(peer, raw_id, incarnation)
                continue
            member, dead = core.members.get(node_id), core.dead.get(node_id)
            order = (incarnation, version)
            if node_id == core.self_id:
                if order < core.me.order:
                    newer_here.append(core.me)
                elif order > core.me.order:
                    wants.append(raw_id)
            elif dead is not None and incarnation <= dead.incarnation:
                accused.append(self._end_of(raw_id, dead))
            elif member is None or order > member.record.order:
                if member is not None or (discover and node_id not in core.revoked):
                    wants.append(raw_id)
            elif order < member.record.order:
                newer_here.append(member.record)
        missing = [m.record for i, m in core.members.items() if i not in theirs and i != peer]
        self._hear_updates(peer, digests.notices)
        told = accused + self.notices_lacking(digests.notices)
        self._exchange(peer, newer_here + (missing if discover else []), told, wants)

    def _rows(self, digests: Digests) -> list[tuple[bytes, int, int, int]]:
        try:
            return list(codec.unpack_digests(digests.entries))
        except codec.WireError:
            self._core.counters["frames_refused"] += 1
            return []

    def _end_of(self, raw_id: bytes, dead: DeadPeer) -> bytes:
        """Return the farewell of who left, an accusation of who died."""
        if dead.farewell is not None:
            return codec.encode_part(dead.farewell)
        accuser = bytes.fromhex(self._core.self_id)
        return msgspec.msgpack.encode(Accusation(raw_id, dead.incarnation, True, accuser))

    def _peer_says_dead(self, peer: NodeId, raw_id: bytes, incarnation: int) -> None:
        accusation = Accusation(raw_id, incarnation, True, bytes.fromhex(peer))
        self._hear_updates(peer, (msgspec.Raw(msgspec.msgpack.encode(accusation)),))

    def _exchange(self, peer: NodeId, records: list[Record], updates: list[bytes],
                  wants: list[bytes]) -> None:  # fmt: skip
        """Send and fetch in frames of bounded size, one after another."""
        if not (records or updates or wants):
            return
        core = self._core
        told, later = updates[:_UPDATES_PER_FRAME], updates[_UPDATES_PER_FRAME:]
        lines, rest = _fitting(records)
        batch = wants[: limits.RECORDS_PER_EXCHANGE_MAX]
        before = len(core.members)

        def on_answer(answer: StreamMessage | None, _refused: bool) -> None:
            if not isinstance(answer, Records):
                return
            self._learn_all(answer.records, peer, before)
            got = len(answer.records)
            left = wants[got:] if got else wants[len(batch) :]
            if rest or left or later:
                self._exchange(peer, rest, later, left)

        message = Exchange(
            lines,
            tuple(msgspec.Raw(u) for u in told),
            tuple(batch),
        )
        core.request(core.contact(peer), message, core.config.sync_timeout_s, on_answer)

    def _learn_all(self, lines: tuple[msgspec.Raw, ...], source: NodeId, before: int) -> None:
        spread = len(lines) <= max(_FEW, before)
        for line in lines:
            record = parse_record(bytes(line))
            if record is None:
                self._core.counters["records_broken"] += 1
            else:
                self._membership.learn(record, source, spread)

    # --- answering -------------------------------------------------------

    def answer_sync(self, peer: NodeId, message: Sync) -> StreamMessage:
        """Return how this node's table stands against the asker's."""
        core = self._core
        self._learn_one(message.me, peer)
        me = msgspec.Raw(core.me.line)
        if message.table_hash == core.table_hash:
            return InSync(me)
        rows = [(m.record.claim.node_id, *m.record.order, _ALIVE) for m in core.members.values()]
        rows.append((core.me.claim.node_id, *core.me.order, _ALIVE))
        rows.extend(
            (d.record.claim.node_id, *d.record.order, _GONE)
            for d in core.dead.entries() if not d.left
        )  # fmt: skip
        notices = tuple(msgspec.Raw(raw) for raw in self.notices())
        return Digests(me, codec.pack_digests(rows), notices)

    def answer_exchange(self, peer: NodeId, message: Exchange) -> StreamMessage:
        """Take in what the peer sent and return what it wants, as far as it is here and fits."""
        self._learn_all(message.records, peer, len(self._core.members))
        self._hear_updates(peer, message.updates)
        return Records(_fitting([r for r in map(self._held, message.wants) if r])[0])

    def answer_check(self, accused_incarnation: int | None) -> StreamMessage:
        """Return this node's record; refute what is being said of it."""
        if accused_incarnation is not None:
            self._membership.own.refute(accused_incarnation)
        return CheckAnswer(msgspec.Raw(self._core.me.line))

    def _held(self, raw_id: bytes) -> Record | None:
        node_id = NodeId(raw_id.hex())
        if node_id == self._core.self_id:
            return self._core.me
        member = self._core.members.get(node_id)
        return member.record if member else None

    # --- bodies that gossip named ----------------------------------------

    def want(self, subject: NodeId, source: NodeId) -> None:
        """Pull this subject's record from whom it was heard of, together with others, in a moment."""
        core = self._core
        if len(self._wants) >= limits.WANTS_MAX:
            core.counters["wants_dropped"] += 1
            return
        self._wants[subject] = source
        if not self._pulling:
            self._pulling = True
            core.timers.at(core.now + core.config.pull_delay_s, self._pull)

    def _pull(self, _: None) -> None:
        self._pulling = False
        by_source: dict[NodeId, list[bytes]] = {}
        for subject, source in self._wants.items():
            by_source.setdefault(source, []).append(bytes.fromhex(subject))
        self._wants.clear()
        for source, wants in by_source.items():
            if source in self._core.links:
                self._exchange(source, [], [], wants)


def _fitting(records: list[Record]) -> tuple[tuple[msgspec.Raw, ...], list[Record]]:
    """Return the lines of as many records as one frame takes, and the rest."""
    size = 0
    for count, record in enumerate(records):
        size += len(record.line) + 5
        if size > _FRAME_BUDGET_BYTES or count == limits.RECORDS_PER_EXCHANGE_MAX:
            return tuple(msgspec.Raw(r.line) for r in records[:count]), records[count:]
    return tuple(msgspec.Raw(r.line) for r in records), []
