"""The shapes that travel, as MessagePack arrays. Datagrams and stream requests, told apart by a tag.

Only shapes: who sends what, when, is decided elsewhere. Compatibility rule: fields are appended with
defaults and never removed or reordered; a reader ignores trailing fields and unknown tags. Updates stay
encoded (`msgspec.Raw`) until somebody looks, so that one unknown update does not spoil a datagram.

Source: SWIM section 4 (ping, ping-req, ack), Lifeguard (nack), memberlist (push-pull).
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from nodes.mesh import limits
from nodes.mesh.announcement import Announcement, IdBytes

Sequence = Annotated[int, Meta(ge=0, lt=2**32)]
Incarnation = Annotated[int, Meta(ge=0, lt=2**53)]
Version = Annotated[int, Meta(ge=0, lt=2**32)]
Digest = Annotated[bytes, Meta(min_length=limits.DIGEST_BYTES, max_length=limits.DIGEST_BYTES)]
Signature = Annotated[
    bytes, Meta(min_length=limits.SIGNATURE_BYTES, max_length=limits.SIGNATURE_BYTES)
]
PublicKey = Annotated[
    bytes, Meta(min_length=limits.PUBLIC_KEY_BYTES, max_length=limits.PUBLIC_KEY_BYTES)
]
Load = Annotated[bytes, Meta(max_length=limits.LOAD_BYTES_MAX)]
Updates = Annotated[
    tuple[msgspec.Raw, ...],
    Meta(max_length=limits.UPDATES_PER_DATAGRAM_MAX + limits.NOTICES_PER_DATAGRAM_MAX),
]


class Claim(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Alive, with a body of this digest: signed by its subject. Orders by (incarnation, version)."""

    node_id: IdBytes
    incarnation: Incarnation
    version: Version
    left: bool
    """True: the subject's farewell."""
    digest: Digest
    """First half of the SHA-256 of the encoded body: the signature covers the body through it."""
    signature: Signature


class Accusation(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """A third party's word: this member did not answer. Only its subject can refute it."""

    node_id: IdBytes
    incarnation: Incarnation
    dead: bool
    """False: suspect. True: the accuser verified the death; a receiver verifies it again."""
    accuser: IdBytes
    refused: bool = False
    """True: the subject's machine answered that the port is closed."""


class Notice(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Something for everyone that is no member's own: a revocation, a tombstone."""

    topic: Annotated[str, Meta(max_length=limits.TOPIC_CHARS_MAX)]
    version: Incarnation
    body: Annotated[bytes, Meta(max_length=limits.NOTICE_BYTES_MAX)]
    expires_unix_s: Incarnation


Update = Claim | Accusation | Notice


class Body(msgspec.Struct, array_like=True, frozen=True):
    """What a digest stands for: who the subject is, and what it says."""

    public_key: PublicKey
    """Raw Ed25519; the node id follows from it."""
    credential: Annotated[bytes, Meta(max_length=limits.CREDENTIAL_BYTES_MAX)]
    boot: Annotated[bytes, Meta(max_length=16)]
    """Random for each start of the process: tells a restart from a twin."""
    protocol: Version
    announcement: Announcement


class RecordLine(msgspec.Struct, array_like=True, frozen=True):
    """A claim and the body it signs."""

    claim: Claim
    body: Annotated[bytes, Meta(max_length=limits.BODY_BYTES_MAX)]


# --- datagrams -------------------------------------------------------


class Ping(msgspec.Struct, array_like=True, tag=1):
    """Asks for an `Ack` of the same number."""

    seq: Sequence
    updates: Updates = ()
    load: Load = b""


class Ack(msgspec.Struct, array_like=True, tag=2):
    """Answers a `Ping`."""

    seq: Sequence
    updates: Updates = ()
    load: Load = b""


class PingRequest(msgspec.Struct, array_like=True, tag=3):
    """Asks a relay to probe `target` and to tell with the same number (SWIM's ping-req)."""

    seq: Sequence
    target: IdBytes
    updates: Updates = ()


class RelayAck(msgspec.Struct, array_like=True, tag=4):
    """The relay heard the target."""

    seq: Sequence
    updates: Updates = ()


class Nack(msgspec.Struct, array_like=True, tag=5):
    """The relay did not hear the target, but it did hear the request (Lifeguard)."""

    seq: Sequence
    updates: Updates = ()


class Gossip(msgspec.Struct, array_like=True, tag=6):
    """Updates, or a fresh load, with no probe to ride on."""

    updates: Updates = ()
    load: Load = b""


Datagram = Ping | Ack | PingRequest | RelayAck | Nack | Gossip

# --- requests and answers on streams ---------------------------------


class Check(msgspec.Struct, array_like=True, tag=16):
    """A round trip over a reliable stream, nothing else. `accused`: what is being said of the receiver."""

    accused_incarnation: Incarnation | None = None


class CheckAnswer(msgspec.Struct, array_like=True, tag=17):
    """I am here; this is my record."""

    me: msgspec.Raw


class Sync(msgspec.Struct, array_like=True, tag=18):
    """Opens a push-pull: here I am; are our tables equal?"""

    me: msgspec.Raw
    table_hash: Annotated[int, Meta(ge=0, lt=2**62)]


class InSync(msgspec.Struct, array_like=True, tag=19):
    """The tables are equal. Answers `Sync`."""

    me: msgspec.Raw


class Digests(msgspec.Struct, array_like=True, tag=20):
    """The answerer's whole table in short (see `codec.pack_digests`). Answers `Sync`."""

    me: msgspec.Raw
    entries: Annotated[bytes, Meta(max_length=limits.DIGESTS_MAX * 45)]
    notices: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=limits.NOTICES_MAX)] = ()


class Exchange(msgspec.Struct, array_like=True, tag=21):
    """The differences, one way, and what is wanted the other way. Answered by `Records`."""

    records: Annotated[
        tuple[msgspec.Raw, ...], Meta(max_length=limits.RECORDS_PER_EXCHANGE_MAX)
    ] = ()
    updates: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=limits.DIGESTS_MAX)] = ()
    wants: Annotated[tuple[IdBytes, ...], Meta(max_length=limits.RECORDS_PER_EXCHANGE_MAX)] = ()


class Records(msgspec.Struct, array_like=True, tag=22):
    """What was wanted, as far as it is there and fits a frame."""

    records: Annotated[
        tuple[msgspec.Raw, ...], Meta(max_length=limits.RECORDS_PER_EXCHANGE_MAX)
    ] = ()


StreamMessage = Check | CheckAnswer | Sync | InSync | Digests | Exchange | Records
