"""A running membership core with one hostile member: what it is sent is changed, cut, repeated and invented.

The core judges with the real keys, credentials and notices. Accepted would be: a word in the table that its
subject did not sign, a member that nobody admitted, a notice that the mesh's key did not sign, or a table,
queue or timer heap beyond its bound. The clock is virtual: a thousand inputs are some seconds of its life.
"""

import random
from collections import deque

import msgspec

from nodes.mesh import codec, limits
from nodes.mesh.announcement import Announcement, ModelOnDiskLine
from nodes.mesh.config import lan
from nodes.mesh.events import TimePassed
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_effects import GossipEffect, SendAnswer, SendRequest
from nodes.mesh.gossip_events import (
    Contact,
    DatagramReceived,
    GossipEvent,
    JoinRequested,
    LinkId,
    LinkUp,
    RequestAnswered,
    RequestId,
    RequestReceived,
)
from nodes.mesh.messages import (
    Accusation,
    Ack,
    Check,
    CheckAnswer,
    Digests,
    Exchange,
    Gossip,
    InSync,
    Nack,
    Notice,
    Ping,
    PingRequest,
    Records,
    RelayAck,
    Sync,
)
from nodes.mesh.records import NodeIdentity, Record, make_record
from nodes.runtime import identity, mesh_key, trust_notices
from nodes.runtime.credentials import Role, issue
from nodes.runtime.identity import Identity
from nodes.runtime.trust import Trust
from nodes.runtime.trust_records import signed_revocation
from tests.fuzz.mutate import mutated

MEMBERS = 6
STEP_S = 0.004
TIMERS_MAX = 20_000
START_UNIX_S = 1_790_000_000
_FAR_UNIX_S = START_UNIX_S + 10**6


class GossipTarget:
    """The core under fire, and those whose words are true."""

    def __init__(self, dice: random.Random) -> None:
        self._key = mesh_key.new_mesh()
        self._trusts = [self._trust(identity.ephemeral()) for _ in range(MEMBERS + 1)]
        judge, *_ = judges = [_judge(trust) for trust in self._trusts]
        said = [_announcement(n) for n in range(MEMBERS + 1)]
        self.now = 1_000.0
        self.node = GossipNode(
            judge, said[0], START_UNIX_S * 1000, lan(), random.Random(dice.random()), self.now
        )
        self._records = [
            make_record(j, a, START_UNIX_S * 1000, version)
            for j, a in zip(judges[1:], said[1:], strict=True)
            for version in (0, 1, 2)
        ]
        self._signed = {r.claim.signature for r in self._records}
        self._notices = self._genuine_notices()
        self._asked: deque[SendRequest] = deque(maxlen=64)
        self._links = 0
        self._request = 0
        self.revivals = 0
        self.answers = 0
        """Requests of ours that the core answered: it was alive all the time."""
        self.node.restore(self._records[::3])
        self._hostile = self._records[0].node_id
        self._link_up()

    def _trust(self, who: Identity) -> Trust:
        return Trust(who, self._key, now_s=lambda: START_UNIX_S)

    def _genuine_notices(self) -> list[Notice]:
        stranger = identity.ephemeral()
        record = signed_revocation(self._key, stranger.node_id, START_UNIX_S)
        topic, version, body = trust_notices.revocation_notice(record)
        return [Notice(topic, version, body, _FAR_UNIX_S)]

    def _link_up(self) -> None:
        self._links += 1
        self._give(LinkUp(self._hostile, LinkId(self._links), True, "10.0.0.2:7842"))

    def _give(self, event: GossipEvent) -> list[GossipEffect]:
        effects = self.node.handle(event, self.now)
        for effect in effects:
            if isinstance(effect, SendRequest):
                self._asked.append(effect)
            elif isinstance(effect, SendAnswer):
                self.answers += 1
        return effects

    def _bring_back(self) -> None:
        """Accusations without an answer kill, as they should; the operator names the dead again."""
        self.revivals += 1
        self._give(JoinRequested(tuple(Contact(r.node_id, ("10.0.0.9:1",)) for r in self._records)))
        self.node.restore(self._records[::3])

    # --- one input -------------------------------------------------------

    def try_one(self, dice: random.Random) -> bool:
        """Hand in one hostile input; return whether anything was taken that must not be."""
        self.now += STEP_S
        if self.node.deadline <= self.now:
            self._give(TimePassed())
        if self._hostile not in self.node.linked:
            self._link_up()
        if len(self.node.members()) < MEMBERS // 2:
            self._bring_back()
        match dice.randrange(4):
            case 0 | 1:
                data = self._hostile_bytes(codec.encode(self._datagram(dice)), dice)
                self._give(DatagramReceived(self._hostile, data))
            case 2:
                data = self._hostile_bytes(codec.encode(self._question(dice)), dice)
                self._request += 1
                self._give(RequestReceived(self._hostile, RequestId(self._request), data))
            case _:
                self._answer_one(dice)
        return self._took_something()

    def _hostile_bytes(self, content: bytes, dice: random.Random) -> bytes:
        kind = dice.random()
        if kind < 0.1:
            return dice.randbytes(dice.choice((0, 1, 3, 40, 1_150, 2_000)))
        if kind < 0.2:
            return content  # true words at the wrong time, again and again
        return mutated(content, dice)

    def _answer_one(self, dice: random.Random) -> None:
        """Answer one of the core's own requests, mostly wrongly."""
        if not self._asked:
            return
        asked = self._asked.popleft()
        me = msgspec.Raw(dice.choice(self._records).line)
        message = dice.choice(
            (
                CheckAnswer(me), InSync(me), Records(self._lines(dice)),
                Digests(me, self._rows(dice), self._updates(dice, 2)),
            )
        )  # fmt: skip
        data = self._hostile_bytes(codec.encode(message), dice)
        self._give(RequestAnswered(asked.request, data))

    # --- what true messages look like ------------------------------------

    def _datagram(self, dice: random.Random) -> msgspec.Struct:
        updates, seq = self._updates(dice, 3), dice.randrange(1_000)
        target = dice.choice(self._records).claim.node_id
        kinds = (Ping(seq, updates, b"load"), Ack(seq, updates, b"load"), Gossip(updates, b"load"),
                 PingRequest(seq, target, updates), RelayAck(seq, updates), Nack(seq, updates))  # fmt: skip
        return dice.choice(kinds)

    def _question(self, dice: random.Random) -> msgspec.Struct:
        record = dice.choice(self._records)
        wants = tuple(r.claim.node_id for r in dice.sample(self._records, 2))
        questions = (Check(record.claim.incarnation), Sync(msgspec.Raw(record.line), dice.getrandbits(60)),
                     Exchange(self._lines(dice), self._updates(dice, 4), wants))  # fmt: skip
        return dice.choice(questions)

    def _lines(self, dice: random.Random) -> tuple[msgspec.Raw, ...]:
        """Return records, some with another body under the same signature, some with another claim."""
        chosen = dice.sample(self._records, 2)
        return tuple(msgspec.Raw(self._spoilt(r, dice)) for r in chosen)

    def _spoilt(self, record: Record, dice: random.Random) -> bytes:
        if dice.random() < 0.3:
            return record.line
        claim = record.claim
        match dice.randrange(4):
            case 0:
                claim = msgspec.structs.replace(
                    claim, incarnation=claim.incarnation + dice.randint(1, 9)
                )
            case 1:
                claim = msgspec.structs.replace(claim, version=claim.version + dice.randint(1, 9))
            case 2:
                claim = msgspec.structs.replace(claim, left=True)
            case _:
                claim = msgspec.structs.replace(claim, signature=dice.randbytes(64))
        _, body = msgspec.msgpack.decode(record.line)
        return codec.encode_part([msgspec.Raw(codec.encode_part(claim)), body])

    def _updates(self, dice: random.Random, most: int) -> tuple[msgspec.Raw, ...]:
        return tuple(msgspec.Raw(self._update(dice)) for _ in range(dice.randint(0, most)))

    def _update(self, dice: random.Random) -> bytes:
        record = dice.choice(self._records)
        match dice.randrange(4):
            case 0:
                return record.update
            case 1:
                accuser = dice.choice(self._records).claim.node_id
                subject = dice.choice((record.claim.node_id, dice.randbytes(32)))
                incarnation = record.claim.incarnation + dice.choice((0, 0, 1, 5))
                return codec.encode_part(
                    Accusation(subject, incarnation, dice.random() < 0.5, accuser)
                )
            case 2:
                notice = dice.choice(self._notices)
                body = notice.body if dice.random() < 0.3 else mutated(notice.body, dice)
                topic = notice.topic if dice.random() < 0.7 else f"drop/{dice.randrange(1_000)}"
                return codec.encode_part(msgspec.structs.replace(notice, body=body, topic=topic))
            case _:
                spoilt = msgspec.structs.replace(record.claim, version=dice.randrange(2**32))
                return codec.encode_part(spoilt)

    def _rows(self, dice: random.Random) -> bytes:
        rows = [
            (r.claim.node_id, *r.order, dice.randrange(2)) for r in dice.sample(self._records, 3)
        ]
        rows.append((dice.randbytes(32), dice.getrandbits(50), dice.getrandbits(30), 0))
        return codec.pack_digests(rows)

    # --- the judgement ---------------------------------------------------

    def _took_something(self) -> bool:
        core = self.node._core
        if any(m.record.claim.signature not in self._signed for m in core.members.values()):
            return True
        if set(self.node._notices.versions()) - {n.topic for n in self._notices}:
            return True
        return (
            len(core.members) > MEMBERS
            or len(core.broadcasts) > limits.BROADCASTS_MAX
            or len(self.node._anti_entropy._wants) > limits.WANTS_MAX
            or len(core.timers._heap) > TIMERS_MAX
        )


def _judge(trust: Trust) -> NodeIdentity:
    assert trust.mesh_key is not None
    return NodeIdentity(
        public_key=trust.identity.public_key,
        credential=issue(trust.mesh_key, trust.node_id, Role.MEMBER, START_UNIX_S).encode(),
        boot=b"boot0000",
        sign=trust.identity.sign,
        verify=lambda key, content, signature: identity.verify(key, signature, content),
        accept_member=lambda *shown: trust_notices.accept_member(trust, *shown),
        accept_notice=lambda *shown: trust_notices.accept_notice(trust, *shown),
    )


def _announcement(number: int) -> Announcement:
    models = tuple(ModelOnDiskLine(f"model-{n}", 10**9, "abcd") for n in range(3))
    return Announcement(
        f"node-{number}", (f"10.0.0.{number}:7842",), "host", "0.1", 10**10, (), models
    )
