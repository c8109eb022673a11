"""Both ends proven inside the TLS handshake: what of aioquic has to be changed for that.

aioquic 1.7.2 asks a client for no certificate, and lets an empty one pass. Here the server asks, and
on both sides the certificate is judged the moment it arrives: one certificate, Ed25519, its id the
expected one, its credential good. A refusal is a TLS alert (RFC 8446 section 6.2) whose text is one
stable word, so the other end can say why. There are no session tickets and no 0-RTT: resumption
would skip the certificates. The signature that follows (CertificateVerify) proves the key itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnection

from nodes.mesh.ids import NodeId
from nodes.runtime.credentials import MAX_CERTIFICATE_BYTES, Credential, CredentialError, peer_of


@dataclass(frozen=True, slots=True)
class ProvenPeer:
    """The other end, as the handshake proved it."""

    node_id: NodeId
    credential: Credential | None
    """None only under `mesh-join/1`, of the joining side."""
    alpn: str


Admission = Callable[[NodeId, Credential | None, str], None]
"""Returns when this peer may finish a handshake under this ALPN; raises CredentialError."""


class ProvenContext(tls.Context):
    """aioquic's TLS engine, with the certificates judged."""

    admission: Admission
    proven: ProvenPeer | None = None

    def _set_peer_certificate(self, certificate: tls.Certificate) -> None:
        shown = certificate.certificates
        if len(shown) != 1 or len(shown[0][0]) > MAX_CERTIFICATE_BYTES:
            raise tls.AlertBadCertificate("certificate_malformed")
        super()._set_peer_certificate(certificate)
        assert self._peer_certificate is not None
        alpn = self.alpn_negotiated or ""
        try:
            node_id, credential = peer_of(self._peer_certificate)
            self.admission(node_id, credential, alpn)
        except CredentialError as error:
            raise tls.AlertBadCertificate(error.code) from error
        self.proven = ProvenPeer(node_id, credential, alpn)

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        if self._peer_certificate is None:
            raise tls.AlertHandshakeFailure("no_certificate")


def require_proof(quic: QuicConnection, admission: Admission) -> None:
    """Make `quic` prove its peer. Call before its first packet."""
    make_tls = quic._initialize

    def initialize(peer_cid: bytes) -> None:
        make_tls(peer_cid)
        context = quic.tls
        # aioquic builds its context itself and offers no factory.
        context.__class__ = ProvenContext
        assert isinstance(context, ProvenContext)
        context.admission = admission
        context._request_client_certificate = not context._is_client
        context._signature_algorithms = [tls.SignatureAlgorithm.ED25519]
        context._supported_groups = [tls.Group.X25519]
        # Without a ticket there is no resumption, and so no way around the certificates.
        context.get_session_ticket_cb = None
        context.new_session_ticket_cb = None

    setattr(quic, "_initialize", initialize)  # noqa: B010 - a method, which mypy lets nobody assign


def proven_peer(quic: QuicConnection) -> ProvenPeer | None:
    """Return whom the handshake proved; None before that."""
    context = getattr(quic, "tls", None)
    return context.proven if isinstance(context, ProvenContext) else None


def is_confirmed(quic: QuicConnection) -> bool:
    """Return whether the other end has accepted our proof, too (RFC 9001 section 4.1.2)."""
    return quic._handshake_confirmed
