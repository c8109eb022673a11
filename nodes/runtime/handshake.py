"""Both ends proven inside the TLS handshake, and windows that do not grow: what aioquic needs changed.

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
from aioquic.quic.connection import MAX_STREAM_DATA_FRAME_CAPACITY, Limit, QuicConnection
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from nodes.mesh.ids import NodeId
from nodes.runtime.credentials import MAX_CERTIFICATE_BYTES, Credential, CredentialError, peer_of
from nodes.runtime.transport_settings import STREAMS_MAX


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


def cap_windows(quic: QuicConnection, stream_window_bytes: int) -> None:
    """Cap what the peer may have under way: streams open at a time, and bytes on each.

    aioquic doubles a stream's window as bytes arrive, in order or not, without end. Here the window
    slides with what was delivered in order, so a hostile peer cannot make the buffer grow.
    """
    quic._local_max_streams_bidi = Limit(
        frame_type=QuicFrameType.MAX_STREAMS_BIDI, name="max_streams_bidi", value=STREAMS_MAX
    )
    # No unidirectional streams here: a peer may open none.
    quic._local_max_streams_uni = Limit(
        frame_type=QuicFrameType.MAX_STREAMS_UNI, name="max_streams_uni", value=0
    )

    def write_stream_limits(
        builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        wanted = stream.receiver.starting_offset() + stream_window_bytes
        if wanted - stream.max_stream_data_local >= stream_window_bytes // 2:
            stream.max_stream_data_local = wanted
        if stream.max_stream_data_local_sent == stream.max_stream_data_local:
            return
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=quic._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        assert stream.stream_id is not None
        buf.push_uint_var(stream.stream_id)
        buf.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local

    setattr(quic, "_write_stream_limits", write_stream_limits)  # noqa: B010 - as above


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
