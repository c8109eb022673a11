"""Trust as gossip carries it: which credentials and notices the membership core may believe.

Pure but for the `Trust` and ledger handed in. Topics: ``revoke/<node id>``, ``epoch/<number>``,
``token/<token id>`` (taken back) and ``used/<token id>/<node id>`` (a counted token was used). Bodies
are the records of `trust_records`, or a `TokenNotice` signed by the mesh's key.
"""

import struct

import msgspec

from nodes.mesh.ids import NodeId
from nodes.runtime import trust_records
from nodes.runtime.credentials import Credential, CredentialError, Role
from nodes.runtime.identity import node_id_of, verify
from nodes.runtime.mesh_key import MeshKey
from nodes.runtime.token_ledger import TokenLedger, TokenRecord
from nodes.runtime.trust import Trust
from nodes.runtime.trust_records import Revocation, Rotation
from nodes.runtime.unpack import UNPACK_FAULTS

_TOKEN = b"mesh-llm token notice\0"


class TokenNotice(msgspec.Struct, frozen=True):
    """One token was taken back (`node_id` empty), or one node came by it."""

    token_id: str
    issuer: str
    epoch: int
    expires_s: int
    max_uses: int
    """0: any number."""
    clients_only: bool
    node_id: str = ""
    signature: bytes = b""

    def content(self, mesh_id: str) -> bytes:
        """Return the bytes that are signed."""
        numbers = struct.pack(">HIHB", self.epoch, self.expires_s, self.max_uses, self.clients_only)
        names = bytes.fromhex(mesh_id + self.token_id + self.issuer + self.node_id)
        return _TOKEN + numbers + names


def accept_member(trust: Trust, node_id: NodeId, public_key: bytes, credential: bytes) -> bool:
    """Return whether the core may believe that this node is a full member of the mesh."""
    try:
        if node_id_of(public_key) != node_id:
            return False
        return trust.admit(node_id, Credential.decode(credential)).role is Role.MEMBER
    except (CredentialError, ValueError):
        return False


def revocation_notice(record: Revocation) -> tuple[str, int, bytes]:
    """Return topic, version and body of a revocation."""
    return f"revoke/{record.node_id}", record.made_s * 1000, msgspec.msgpack.encode(record)


def rotation_notice(record: Rotation) -> tuple[str, int, bytes]:
    """Return topic, version and body of a new epoch. The key itself never travels in gossip."""
    return f"epoch/{record.epoch}", record.made_s * 1000, msgspec.msgpack.encode(record)


def token_notice(
    key: MeshKey, record: TokenRecord, node_id: NodeId | None, now_s: float
) -> tuple[str, int, bytes]:
    """Return topic, version and body: `record` was revoked (`node_id` None) or used by a node."""
    unsigned = TokenNotice(
        record.token_id, record.issuer, record.epoch, record.expires_s, record.max_uses or 0,
        record.clients_only, node_id or "",
    )  # fmt: skip
    notice = msgspec.structs.replace(unsigned, signature=key.sign(unsigned.content(key.mesh_id)))
    # A topic has at most 160 characters: the id is told apart by its first half.
    topic = f"used/{record.token_id}/{node_id[:32]}" if node_id else f"token/{record.token_id}"
    return topic, int(now_s * 1000), msgspec.msgpack.encode(notice)


def accept_notice(trust: Trust, topic: str, version: int, body: bytes) -> bool:
    """Return whether a notice about trust is genuine; topics of other kinds are not ours to accept."""
    kind, _, subject = topic.partition("/")
    mesh_id = trust.mesh_id
    try:
        if kind == "revoke":
            revocation = msgspec.msgpack.decode(body, type=Revocation)
            key = trust.public_key(revocation.epoch)
            return (
                subject == revocation.node_id
                and version == revocation.made_s * 1000
                and key is not None
                and trust_records.genuine(revocation, mesh_id, key)
            )
        if kind == "epoch":
            rotation = msgspec.msgpack.decode(body, type=Rotation)
            key = trust.public_key(rotation.epoch - 1)
            same = subject == str(rotation.epoch) and version == rotation.made_s * 1000
            return same and key is not None and trust_records.genuine(rotation, mesh_id, key)
        if kind in ("token", "used"):
            return _genuine_token(trust, kind, subject, body)
    except (*UNPACK_FAULTS, struct.error):
        return False
    return False


def apply_notice(trust: Trust, ledger: TokenLedger, topic: str, body: bytes) -> bool:
    """Take over an accepted notice; return whether it was one about trust.

    Raises:
        TokenLedgerError: it holds in memory but cannot be kept.
    """
    match topic.partition("/")[0]:
        case "revoke":
            trust.add_records([msgspec.msgpack.decode(body, type=Revocation)], [])
        case "epoch":
            trust.add_records([], [msgspec.msgpack.decode(body, type=Rotation)])
        case "token" | "used":
            notice = msgspec.msgpack.decode(body, type=TokenNotice)
            ledger.merge(_record(trust, notice))
        case _:
            return False
    return True


def _genuine_token(trust: Trust, kind: str, subject: str, body: bytes) -> bool:
    notice = msgspec.msgpack.decode(body, type=TokenNotice)
    wanted = notice.token_id if kind == "token" else f"{notice.token_id}/{notice.node_id[:32]}"
    key = trust.public_key(notice.epoch)
    return (
        subject == wanted
        and bool(notice.node_id) == (kind == "used")
        and key is not None
        and verify(key, notice.signature, notice.content(trust.mesh_id))
    )


def _record(trust: Trust, notice: TokenNotice) -> TokenRecord:
    return TokenRecord(
        token_id=notice.token_id, issuer=NodeId(notice.issuer), mesh_id=trust.mesh_id,
        epoch=notice.epoch, expires_s=notice.expires_s, max_uses=notice.max_uses or None,
        clients_only=notice.clients_only, revoked=not notice.node_id,
        redeemed_by=[NodeId(notice.node_id)] if notice.node_id else [],
    )  # fmt: skip
