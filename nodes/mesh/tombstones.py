"""What operators dropped: a register for each model, the newest word wins, told by signed notices.

A dropped model has no wish and no promotion anywhere until a newer notice lifts it: `load`, or a
`--model` of a node that started later. Drop and lift share one topic, so that one version orders both.
The body proves itself by its issuer's credential and signature, whether or not the issuer is still a
member. Knows no clock: versions come from outside. Source: spec, Pinned 9; notices: `gossip_events`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from nodes.mesh import limits
from nodes.mesh.gossip_events import NoticeIssued
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.records import NodeIdentity, id_of_key

TOPIC_KIND = "drop"
TOMBSTONE_LIFE_S = 7 * 86_400
"""Unit: seconds. Within a member's credential, which is renewed with at least 15 days left."""

TOMBSTONES_MAX = limits.NOTICES_MAX
"""Models whose latest word is remembered; lifted ones are forgotten first, then the oldest."""

_CONTEXT = b"mesh-llm drop 1\0"
_SIGNED = struct.Struct(">Q?")


class DropBody(msgspec.Struct, array_like=True, frozen=True):
    """The body of a ``drop/<model>`` notice."""

    public_key: Annotated[
        bytes, Meta(min_length=limits.PUBLIC_KEY_BYTES, max_length=limits.PUBLIC_KEY_BYTES)
    ]
    credential: Annotated[bytes, Meta(max_length=limits.CREDENTIAL_BYTES_MAX)]
    dropped: bool
    """False: the model is wanted again."""
    signature: Annotated[
        bytes, Meta(min_length=limits.SIGNATURE_BYTES, max_length=limits.SIGNATURE_BYTES)
    ]


_decoder = msgspec.msgpack.Decoder(DropBody)


def drop_notice(
    identity: NodeIdentity, model: ModelName, version: int, dropped: bool, now_unix_s: int
) -> NoticeIssued:
    """Return the notice by which this node drops a model for everybody, or lifts that again."""
    topic = f"{TOPIC_KIND}/{model}"
    signature = identity.sign(_content(topic, version, dropped))
    body = DropBody(identity.public_key, identity.credential, dropped, signature)
    encoded = msgspec.msgpack.encode(body)
    assert len(encoded) <= limits.NOTICE_BYTES_MAX, "a credential is far below its cap"
    return NoticeIssued(topic, version, encoded, now_unix_s + TOMBSTONE_LIFE_S)


def model_of(topic: str) -> ModelName | None:
    """Return the model that a notice's topic is about; None: it is no drop."""
    kind, _, subject = topic.partition("/")
    return ModelName(subject) if kind == TOPIC_KIND and subject else None


def accept_drop(identity: NodeIdentity, topic: str, version: int, body: bytes) -> bool:
    """Return whether a member of this mesh signed the notice; part of `NodeIdentity.accept_notice`."""
    parsed = _parse(body)
    if parsed is None or model_of(topic) is None:
        return False
    issuer = id_of_key(parsed.public_key)
    if not identity.accept_member(issuer, parsed.public_key, parsed.credential):
        return False
    content = _content(topic, version, parsed.dropped)
    return identity.verify(parsed.public_key, content, parsed.signature)


def _content(topic: str, version: int, dropped: bool) -> bytes:
    return _CONTEXT + _SIGNED.pack(version, dropped) + topic.encode()


def _parse(body: bytes) -> DropBody | None:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class Word:
    """The latest word about one model."""

    version: int
    dropped: bool
    issuer: NodeId


class Tombstones:
    """The register of one node. Changed by `take` alone."""

    def __init__(self) -> None:
        self._words: dict[ModelName, Word] = {}

    def take(self, topic: str, version: int, body: bytes) -> ModelName | None:
        """Take an accepted notice; return the model whose standing it changed, else None."""
        model, parsed = model_of(topic), _parse(body)
        if model is None or parsed is None:
            return None
        before = self._words.get(model)
        if before is not None and before.version >= version:
            return None
        self._words[model] = Word(version, parsed.dropped, id_of_key(parsed.public_key))
        while len(self._words) > TOMBSTONES_MAX:
            del self._words[min(self._words, key=self._worth)]
        return model if parsed.dropped != (before is not None and before.dropped) else None

    def _worth(self, model: ModelName) -> tuple[bool, int]:
        word = self._words[model]
        return word.dropped, word.version

    def word(self, model: ModelName) -> Word | None:
        """Return the latest word about a model; None: nobody ever dropped it."""
        return self._words.get(model)

    def is_dropped(self, model: ModelName) -> bool:
        """Return whether no wish and no promotion counts for it now."""
        word = self._words.get(model)
        return word is not None and word.dropped

    def next_version(self, model: ModelName, unix_ms: int) -> int:
        """Return a version that outranks what is known, by the clock where that is enough."""
        word = self._words.get(model)
        return unix_ms if word is None else max(unix_ms, word.version + 1)

    @property
    def dropped(self) -> frozenset[ModelName]:
        """Return all that are dropped now."""
        return frozenset(self._dropped())

    def _dropped(self) -> Iterator[ModelName]:
        return (name for name, word in self._words.items() if word.dropped)
