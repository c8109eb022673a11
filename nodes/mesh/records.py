"""One member's own word: a signed claim and its body, as this node holds it.

Decides how a claim is signed and what makes a record believable: the id follows from the public key,
the credential belongs to this mesh, the signature covers (id, incarnation, version, left, digest). The
cryptography itself comes from outside as pure functions. Source: spec, Trust; RFC 8410 (the key's DER).
"""

import functools
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from nodes.mesh import codec, limits
from nodes.mesh.announcement import Announcement
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import Body, Claim, RecordLine

_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
_CLAIM_CONTEXT = b"mesh-llm claim 1\0"
_REMEMBERED_MAX = 2_048
"""Records that are remembered by their bytes, each of `_REMEMBERED_BYTES_MAX` at most: the same one arrives
from many sides. Larger ones are decoded each time, so that nobody can fill the memory with them."""
_REMEMBERED_BYTES_MAX = 4_096
_SIGNED = struct.Struct(">32sQI?16s")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """This node's key and judgement, as pure functions of bytes (see docs/gossip.md)."""

    public_key: bytes
    credential: bytes
    boot: bytes
    """Random for this start of the process, 8 to 16 bytes."""
    sign: Callable[[bytes], bytes]
    verify: Callable[[bytes, bytes, bytes], bool]
    """(public key, content, signature)."""
    accept_member: Callable[[NodeId, bytes, bytes], bool]
    """(node id, public key, credential): may this be a member of this mesh?"""
    accept_notice: Callable[[str, int, bytes], bool]
    """(topic, version, body): is this notice signed by whom it must be?"""


class Record(msgspec.Struct, frozen=True, gc=False, weakref=False):
    """A member's latest believed word. Immutable; replaced whole."""

    node_id: NodeId
    claim: Claim
    body: Body
    update: bytes
    """The claim as it is embedded in a datagram."""
    line: bytes
    """Claim and body as they are embedded in a stream message."""
    hash62: int
    """Stands for (id, incarnation, version, digest) in a table's hash."""

    @property
    def order(self) -> tuple[int, int]:
        """A greater one replaces a smaller one."""
        return self.claim.incarnation, self.claim.version


def signed_content(
    node_id: bytes, incarnation: int, version: int, left: bool, digest: bytes
) -> bytes:
    """Return the bytes that a claim's signature covers."""
    return _CLAIM_CONTEXT + _SIGNED.pack(node_id, incarnation, version, left, digest)


def id_of_key(public_key: bytes) -> NodeId:
    """Return the node id of a raw Ed25519 public key: SHA-256 of its SubjectPublicKeyInfo."""
    return NodeId(hashlib.sha256(_SPKI_PREFIX + public_key).hexdigest())


def make_record(
    identity: NodeIdentity,
    announcement: Announcement,
    incarnation: int,
    version: int,
    left: bool = False,
) -> Record:
    """Return this node's own record, signed."""
    body = Body(identity.public_key, identity.credential, identity.boot, codec.WIRE_VERSION,
                announcement)  # fmt: skip
    encoded = codec.encode_part(body)
    while len(encoded) > limits.BODY_BYTES_MAX:
        announcement = _shortened(announcement)
        body = msgspec.structs.replace(body, announcement=announcement)
        encoded = codec.encode_part(body)
    digest = codec.body_digest(encoded)
    node_id = bytes.fromhex(id_of_key(identity.public_key))
    signature = identity.sign(signed_content(node_id, incarnation, version, left, digest))
    claim = Claim(node_id, incarnation, version, left, digest, signature)
    return _decoded(codec.encode_part(RecordLine(claim, encoded)))


def _shortened(announcement: Announcement) -> Announcement:
    """Return it with half of the longest optional list: what is served matters more than what could be."""
    assert announcement.on_disk or announcement.rates or announcement.rtts, "the caps hold"
    return msgspec.structs.replace(
        announcement,
        on_disk=announcement.on_disk[: len(announcement.on_disk) // 2],
        rates=announcement.rates[: len(announcement.rates) // 2],
        rtts=announcement.rtts[: len(announcement.rtts) // 2],
    )


def parse_record(line: bytes) -> Record | None:
    """Return the record of these bytes, not yet believed; None where they are broken."""
    try:
        return _record(line) if len(line) <= _REMEMBERED_BYTES_MAX else _decoded(line)
    except codec.WireError:
        return None


@functools.lru_cache(maxsize=_REMEMBERED_MAX)
def _record(line: bytes) -> Record:
    return _decoded(line)


def _decoded(line: bytes) -> Record:
    parsed = codec.decode_line(line)
    if parsed is None:
        raise codec.WireError("broken record")
    claim, body = parsed[0].claim, parsed[1]
    node_id = id_of_key(body.public_key)
    if bytes.fromhex(node_id) != claim.node_id:
        raise codec.WireError("the key is not this id's")
    return _held(node_id, claim, body, line)


def _held(node_id: NodeId, claim: Claim, body: Body, line: bytes) -> Record:
    update = codec.encode_part(claim)
    hash62 = int.from_bytes(hashlib.sha256(update).digest()[:8]) >> 2
    return Record(node_id, claim, body, update, line, hash62)


def believed(identity: NodeIdentity, record: Record) -> bool:
    """Return whether the subject really said this and belongs to the mesh."""
    body = record.body
    return identity.accept_member(
        record.node_id, body.public_key, body.credential
    ) and claim_verified(identity, record.claim, body.public_key)


def claim_verified(identity: NodeIdentity, claim: Claim, public_key: bytes) -> bool:
    """Return whether the holder of this key signed the claim."""
    content = signed_content(
        claim.node_id, claim.incarnation, claim.version, claim.left, claim.digest
    )
    return identity.verify(public_key, content, claim.signature)


def with_claim(record: Record, claim: Claim) -> Record:
    """Return the record under a newer claim for the same body (a refutation, a farewell)."""
    assert claim.digest == record.claim.digest, "another body has another digest"
    body = codec.body_of(record.line)
    renewed = parse_record(codec.encode_part(RecordLine(claim, body)))
    assert renewed is not None, "its parts were decoded before"
    return renewed
