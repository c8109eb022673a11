"""Mutual TLS with the nodes' own certificates, as bytes in and bytes out: no socket, no loop.

Decides whether the other end may finish a handshake, by the rules of the peer link (`handshake`):
its certificate's key is Ed25519, the credential in it is this mesh's, a full member's, not revoked, and
where a certain node was dialled, that node's. The judgement is made inside the handshake, by OpenSSL's
verify callback, which Python's own `ssl` has not: there a certificate that no authority signed cannot
be asked of a client at all. TLS 1.3 only (RFC 8446), no tickets: resumption would skip the judgement.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from nodes.mesh.ids import NodeId
from nodes.runtime.credentials import (
    MAX_CERTIFICATE_BYTES,
    Credential,
    CredentialError,
    Role,
    peer_of,
)
from nodes.runtime.lane.settings import ALPN
from nodes.runtime.trust import Trust

_CIPHERS = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
_RECORD_BYTES = 16 << 10
"""The longest content of one record (RFC 8446 section 5.1): no read returns more."""
_SEALED_BYTES = 1 << 20


class LaneRefusedError(ConnectionError):
    """A handshake that failed. `code` is one stable word, those of `CredentialError` among them."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class LanePeer:
    """The other end, as its handshake proved it."""

    node_id: NodeId
    credential: Credential


Admission = Callable[[NodeId, Credential | None], Credential]
"""Returns the credential when this node may use the lane; raises CredentialError."""


def admission_of(trust: Trust) -> Admission:
    """Return the rule of the lane: full members of this mesh, and nobody else."""

    def admit(node_id: NodeId, credential: Credential | None) -> Credential:
        admitted = trust.admit(node_id, credential)
        if admitted.role is not Role.MEMBER:
            raise CredentialError("not_a_member")
        return admitted

    return admit


class TlsContexts:
    """OpenSSL's settings for this node's certificate, made anew when the certificate is."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self._certificate: x509.Certificate | None = None
        self._context: SSL.Context | None = None

    def context(self) -> SSL.Context:
        """Return the settings for both sides."""
        certificate = self.trust.certificate()
        if self._context is None or certificate is not self._certificate:
            self._context = _context(certificate, self.trust)
            self._certificate = certificate
        return self._context


def _context(certificate: x509.Certificate, trust: Trust) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(_CIPHERS)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(certificate)
    context.use_privatekey(trust.identity.private_key)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    context.set_alpn_protos([ALPN])
    context.set_alpn_select_callback(_choose_protocol)
    return context


def _choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    # Without an answer the handshake goes on; `TlsSession` then refuses, and can say why.
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _verify(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
) -> bool:
    """OpenSSL's question about each certificate shown; its own opinion (`error`, `ok`) does not count."""
    session: TlsSession = connection.get_app_data()
    return session.judge(certificate.to_cryptography(), depth)


@dataclass(slots=True)
class Fed:
    """What came of some received bytes."""

    content: list[bytes]
    reply: bytes
    """To be sent: handshake messages and alerts."""


class TlsSession:
    """One connection's cryptography. `peer` is set once the other end is proven."""

    def __init__(
        self,
        context: SSL.Context,
        admission: Admission,
        *,
        server: bool,
        expected: NodeId | None = None,
    ) -> None:
        """`expected`: the node that was dialled; None on the listening side."""
        self._connection = SSL.Connection(context, None)
        self._connection.set_app_data(self)
        self._admission = admission
        self._expected = expected
        self._judged: LanePeer | None = None
        self.refusal = ""
        self.peer: LanePeer | None = None
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()

    def begin(self) -> bytes:
        """Return the first bytes to send: a client's hello; nothing on the listening side."""
        return self.feed(b"").reply

    def judge(self, certificate: x509.Certificate, depth: int) -> bool:
        """Return whether this certificate may stand; the reason against it is kept in `refusal`."""
        try:
            if depth != 0 or len(certificate.public_bytes(Encoding.DER)) > MAX_CERTIFICATE_BYTES:
                raise CredentialError("certificate_malformed")
            node_id, credential = peer_of(certificate)
            admitted = self._admission(node_id, credential)
            if self._expected is not None and node_id != self._expected:
                raise CredentialError("other_node")
        except CredentialError as error:
            self.refusal = error.code
            return False
        except ValueError:
            self.refusal = "certificate_malformed"
            return False
        self._judged = LanePeer(node_id, admitted)
        return True

    def feed(self, received: bytes | memoryview) -> Fed:
        """Return what `received` brings; content comes only from a proven peer.

        Raises:
            LaneRefusedError: the handshake failed, or the bytes are no TLS. `last_words` is then
                what may still be sent.
        """
        connection = self._connection
        content: list[bytes] = []
        try:
            if received:
                connection.bio_write(received)
            if self.peer is None:
                connection.do_handshake()
                self._prove()
            while True:
                content.append(connection.recv(_RECORD_BYTES))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            pass  # The other end says goodbye; what the end means is for the frames to say.
        except SSL.Error as error:
            raise LaneRefusedError(self._failed(error)) from error
        return Fed(content, self._outgoing())

    def seal(self, content: bytes | memoryview) -> bytes:
        """Return `content` as bytes to send. Only after the peer is proven."""
        assert self.peer is not None
        self._connection.sendall(content)
        return self._outgoing()

    def last_words(self) -> bytes:
        """Return the alert that tells the other end of a failure; empty when there is none."""
        return self._outgoing()

    def _prove(self) -> None:
        """Take the handshake as whole. A way around the judgement ends here, too."""
        if self._judged is None:
            raise LaneRefusedError("no_certificate")
        if self._connection.get_alpn_proto_negotiated() != ALPN:
            raise LaneRefusedError("other_protocol")
        self.peer = self._judged

    def _failed(self, error: SSL.Error) -> str:
        if self.refusal:
            return self.refusal
        text = str(error)
        if "peer did not return a certificate" in text:
            return "no_certificate"
        if "alert" in text:
            # Under TLS 1.3 a client's handshake is over before the server has judged it.
            return "refused_by_peer"
        return "not_tls" if self.peer is None else "broken"

    def _outgoing(self) -> bytes:
        parts = []
        try:
            while True:
                parts.append(self._connection.bio_read(_SEALED_BYTES))
        except SSL.WantReadError:
            pass
        return parts[0] if len(parts) == 1 else b"".join(parts)
