"""A node's standing in a mesh, as bytes that prove themselves: signed by the mesh's key, bound to one id.

Decides the format of a credential and of the self-signed certificate that carries it, so that a peer
is admitted inside the TLS handshake without any lookup. Who is admitted is `trust.Trust`'s business.
Sources: RFC 5280 (certificates), ITU-T X.667 (the 2.25 arc of object identifiers, free to use).
"""

import datetime
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

from nodes.mesh.ids import NodeId
from nodes.runtime.identity import SIGNATURE_BYTES, Identity, node_id_of, verify
from nodes.runtime.mesh_key import MeshId, MeshKey, fingerprint

CREDENTIAL_OID = x509.ObjectIdentifier("2.25.207523084939325547702611811619541245792")
MEMBER_LIFETIME_S = 30 * 86_400
"""A full member signs its own next one, so this only bounds how long a lost home stays good."""
CLIENT_LIFETIME_S = 7 * 86_400
CLOCK_SKEW_S = 300
"""How far two machines' clocks may be apart before a credential counts as not yet valid or expired."""
MAX_CERTIFICATE_BYTES = 2048
_CERTIFICATE_LIFETIME = datetime.timedelta(days=3650)
_BODY = struct.Struct(">BBHII16s32s32s")
"""version, role, epoch, issued, expires, mesh id, node id, mesh public key."""
_VERSION = 1
_CONTEXT = b"mesh-llm credential\0"


class Role(StrEnum):
    """What a credential allows."""

    MEMBER = "member"
    CLIENT = "client"


_ROLE_BYTE = {Role.MEMBER: 1, Role.CLIENT: 2}
_ROLE_OF = {byte: role for role, byte in _ROLE_BYTE.items()}


class CredentialError(Exception):
    """A peer is not admitted. `code` is the word that both ends' logs and tests use."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Credential:
    """One node's standing in one mesh."""

    node_id: NodeId
    role: Role
    mesh_id: MeshId
    epoch: int
    issued_s: int
    expires_s: int
    mesh_public_key: bytes
    signature: bytes = b""

    def body(self) -> bytes:
        """Return the bytes that the mesh signs, without the signature."""
        return _BODY.pack(
            _VERSION, _ROLE_BYTE[self.role], self.epoch, self.issued_s, self.expires_s,
            bytes.fromhex(self.mesh_id), bytes.fromhex(self.node_id), self.mesh_public_key,
        )  # fmt: skip

    def encode(self) -> bytes:
        """Return the credential as bytes."""
        return self.body() + self.signature

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Return the credential that `content` holds, signature checked against the key inside.

        Whether that key is the mesh's is for `trust.Trust` to say.

        Raises:
            CredentialError: it is malformed or its signature is wrong.
        """
        if len(content) != _BODY.size + SIGNATURE_BYTES or content[0] != _VERSION:
            raise CredentialError("credential_malformed")
        body, signature = content[: _BODY.size], content[_BODY.size :]
        _, role, epoch, issued_s, expires_s, mesh_id, node_id, public_key = _BODY.unpack(body)
        if role not in _ROLE_OF:
            raise CredentialError("credential_malformed")
        if not verify(public_key, signature, _CONTEXT + body):
            raise CredentialError("credential_forged")
        return cls(
            NodeId(node_id.hex()), _ROLE_OF[role], MeshId(mesh_id.hex()), epoch,
            issued_s, expires_s, public_key, signature,
        )  # fmt: skip

    @property
    def key_fingerprint(self) -> str:
        """The fingerprint of the mesh key that signed it, as invite tokens carry it."""
        return fingerprint(self.mesh_public_key)

    def check_time(self, now_s: float) -> None:
        """Return when it is valid now.

        Raises:
            CredentialError: it is expired, or issued in the future.
        """
        if now_s > self.expires_s + CLOCK_SKEW_S:
            raise CredentialError("credential_expired")
        if now_s < self.issued_s - CLOCK_SKEW_S:
            raise CredentialError("credential_not_yet_valid")


def issue(key: MeshKey, node_id: NodeId, role: Role, now_s: float) -> Credential:
    """Return a fresh credential, signed by the mesh."""
    lifetime_s = CLIENT_LIFETIME_S if role is Role.CLIENT else MEMBER_LIFETIME_S
    return issue_until(key, node_id, role, now_s, now_s + lifetime_s)


def issue_until(
    key: MeshKey, node_id: NodeId, role: Role, issued_s: float, expires_s: float
) -> Credential:
    """Return a credential with a lifetime of its own (Unix times)."""
    unsigned = Credential(
        node_id, role, key.mesh_id, key.epoch, int(issued_s), int(expires_s), key.public_key
    )
    signature = key.sign(_CONTEXT + unsigned.body())
    return Credential(
        node_id, role, key.mesh_id, key.epoch, int(issued_s), int(expires_s), key.public_key,
        signature,
    )  # fmt: skip


def certificate_for(identity: Identity, credential: Credential | None) -> x509.Certificate:
    """Return the node's self-signed certificate, the credential in it; None: an id that knows no mesh yet."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.node_id[:32])])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(identity.private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _CERTIFICATE_LIFETIME)
    )
    if credential is not None:
        carried = x509.UnrecognizedExtension(CREDENTIAL_OID, credential.encode())
        builder = builder.add_extension(carried, critical=False)
    return builder.sign(identity.private_key, None)


def peer_of(certificate: x509.Certificate) -> tuple[NodeId, Credential | None]:
    """Return whose certificate it is, and the credential in it; None when it carries none.

    The certificate's own dates do not count: the credential's do. That the peer holds the key is
    proven by the handshake, not here.

    Raises:
        CredentialError: no Ed25519 key, or a credential that is malformed or another node's.
    """
    try:
        key = certificate.public_key()
        carried = [e.value for e in certificate.extensions if e.oid == CREDENTIAL_OID]
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise CredentialError("certificate_malformed") from error
    if not isinstance(key, Ed25519PublicKey):
        raise CredentialError("certificate_not_ed25519")
    node_id = node_id_of(key)
    if not carried:
        return node_id, None
    if len(carried) != 1 or not isinstance(carried[0], x509.UnrecognizedExtension):
        raise CredentialError("credential_malformed")
    credential = Credential.decode(carried[0].value)
    if credential.node_id != node_id:
        raise CredentialError("credential_of_another_node")
    return node_id, credential
