"""Which nodes operators drained: the signed word that asks a node to serve nothing, or to serve again.

A drained node takes no new requests, lets its open answers finish within their grace, serves nothing and
takes nothing up, until it is undrained or started again; it stays a member. The word is for one life of
its subject (the incarnation that the issuer saw), so that one which still goes round does not drain a node
that was started again. Only the subject obeys, and what is true is what it announces then.
Knows no clock: versions come from outside. Notices: `gossip_events`; the same for models: `tombstones`.
"""

import struct
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from nodes.mesh import limits
from nodes.mesh.effects import RecordEvent
from nodes.mesh.gossip_events import NoticeIssued
from nodes.mesh.ids import NodeId
from nodes.mesh.records import NodeIdentity, id_of_key

TOPIC_KIND = "drain"
DRAINED_ROLE = "drained"
"""The role of a drained node: it is a member and does nothing. Nodes of before show the word as it is."""
DRAIN_LIFE_S = 86_400
"""Unit: seconds. How long the word is spread: a node that cannot be reached for so long is not drained."""
DRAINS_MAX = limits.NOTICES_MAX
"""Nodes whose latest word is remembered, for its version; the oldest goes first."""

_CONTEXT = b"mesh-llm drain 1\0"
_SIGNED = struct.Struct(">QQ?")
_NUMBER_MAX = 2**53
_Number = Annotated[int, Meta(ge=0, le=_NUMBER_MAX)]


class DrainBody(msgspec.Struct, array_like=True, frozen=True):
    """The body of a ``drain/<node id>`` notice."""

    public_key: Annotated[
        bytes, Meta(min_length=limits.PUBLIC_KEY_BYTES, max_length=limits.PUBLIC_KEY_BYTES)
    ]
    credential: Annotated[bytes, Meta(max_length=limits.CREDENTIAL_BYTES_MAX)]
    drained: bool
    """False: the node is to serve again."""
    life: _Number
    """The subject's incarnation as its issuer saw it."""
    signature: Annotated[
        bytes, Meta(min_length=limits.SIGNATURE_BYTES, max_length=limits.SIGNATURE_BYTES)
    ]


_decoder = msgspec.msgpack.Decoder(DrainBody)


def drain_notice(
    identity: NodeIdentity,
    subject: NodeId,
    version: int,
    drained: bool,
    life: int,
    now_unix_s: int,
) -> NoticeIssued:
    """Return the notice by which this node drains the life `life` of another, or lifts that again."""
    topic = f"{TOPIC_KIND}/{subject}"
    signature = identity.sign(_content(topic, version, drained, life))
    body = DrainBody(identity.public_key, identity.credential, drained, life, signature)
    encoded = msgspec.msgpack.encode(body)
    assert len(encoded) <= limits.NOTICE_BYTES_MAX, "a credential is far below its cap"
    return NoticeIssued(topic, version, encoded, now_unix_s + DRAIN_LIFE_S)


def subject_of(topic: str) -> NodeId | None:
    """Return the node that a notice's topic is about; None: it is no word about draining."""
    kind, _, subject = topic.partition("/")
    return NodeId(subject) if kind == TOPIC_KIND and subject else None


def accept_drain(identity: NodeIdentity, topic: str, version: int, body: bytes) -> bool:
    """Return whether a member of this mesh signed the notice; part of `NodeIdentity.accept_notice`."""
    parsed = _parse(body)
    if parsed is None or subject_of(topic) is None or not 0 <= version <= _NUMBER_MAX:
        return False
    issuer = id_of_key(parsed.public_key)
    if not identity.accept_member(issuer, parsed.public_key, parsed.credential):
        return False
    content = _content(topic, version, parsed.drained, parsed.life)
    return identity.verify(parsed.public_key, content, parsed.signature)


def _content(topic: str, version: int, drained: bool, life: int) -> bytes:
    return _CONTEXT + _SIGNED.pack(version, life, drained) + topic.encode()


def _parse(body: bytes) -> DrainBody | None:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class DrainWord:
    """An operator's latest word about one node."""

    subject: NodeId
    version: int
    drained: bool
    life: int

    def story(self, name: str) -> RecordEvent:
        """Return the line of history by which others tell of it; `name` is the subject's."""
        what = "be drained" if self.drained else "serve again"
        text = f"{name or self.subject[:8]} is to {what}: an operator asked for it."
        return RecordEvent("drain_asked", text, node_id=self.subject)


class Drains:
    """The latest words of one mesh. Changed by `take` alone."""

    def __init__(self) -> None:
        self._words: dict[NodeId, DrainWord] = {}

    def take(self, topic: str, version: int, body: bytes) -> DrainWord | None:
        """Take an accepted notice; return the word if it is newer than what was known, else None."""
        subject, parsed = subject_of(topic), _parse(body)
        if subject is None or parsed is None:
            return None
        before = self._words.pop(subject, None)
        if before is not None and before.version >= version:
            self._words[subject] = before
            return None
        self._words[subject] = DrainWord(subject, version, parsed.drained, parsed.life)
        while len(self._words) > DRAINS_MAX:
            del self._words[next(iter(self._words))]
        return self._words[subject]

    def next_version(self, subject: NodeId, unix_ms: int) -> int:
        """Return a version that outranks what is known, by the clock where that is enough."""
        word = self._words.get(subject)
        return unix_ms if word is None else max(unix_ms, word.version + 1)
