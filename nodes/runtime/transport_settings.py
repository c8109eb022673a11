"""Every tunable of the peer link, with unit and reason, and aioquic's configuration made of them.

aioquic's own defaults (idle 60 s, 1 MiB windows that grow, 1,200 bytes, Reno) are never relied on.
Sources: RFC 9000 (idle timeout, flow control), RFC 9221 (datagrams), RFC 8200 (1,280-byte minimum MTU).
"""

import ssl
from dataclasses import dataclass
from typing import Final

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite
from cryptography import x509

from nodes.runtime.identity import Identity

ALPN_MESH: Final = "mesh/1"
ALPN_JOIN: Final = "mesh-join/1"
DATAGRAM_MAX_BYTES: Final = 1150
"""Payload of one datagram frame: what is left of `udp_payload_bytes` after the headers of QUIC."""
STREAMS_MAX: Final = 64
"""Active streams of one connection; a further connection carries the next ones."""
STREAMS_ENDING_MAX: Final = 32
"""Beyond those: streams that both sides have ended, and QUIC has not yet forgotten."""
PENDING_DATAGRAMS_MAX: Final = 256
"""Datagrams waiting for the congestion window; more are dropped and counted, as the network would."""


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """The tunables. The defaults suit a LAN and a WAN alike; tests shorten times."""

    udp_payload_bytes: int = 1232
    """1,280 (the smallest MTU of IPv6, and that of common VPNs) - 40 (IPv6) - 8 (UDP): aioquic does
    not search for a larger one."""
    idle_timeout_s: float = 20.0
    """A silent connection ends. Membership decides far earlier; this only frees what is left."""
    keepalive_s: float = 5.0
    """A ping when nothing else was sent for so long: a quarter of the idle timeout, so three may be lost."""
    initial_rtt_s: float = 0.1
    connection_window_bytes: int = 16 << 20
    stream_window_bytes: int = 512 << 10
    """Twice our own credit (`streams.WINDOW_BYTES`), so that aioquic's window never blocks first."""
    congestion_control: str = "cubic"
    coalesce_s: float = 0.004
    """Small pieces written so soon after other packets wait until then and share one: at 64 streams a token
    costs a fifth. The first piece after a pause never waits."""
    ack_delay_s: float = 0.008
    """How long an acknowledgement waits for more to acknowledge. We say that it may be 25 ms."""
    ack_at_bytes: int = 5_000
    """So many received bytes are acknowledged at once: four packets of a bulk sender."""
    dial_timeout_s: float = 5.0
    dial_stagger_s: float = 0.15
    """Between starting on one address and on the next (RFC 8305 section 5 has 250 ms; a LAN is faster)."""
    handshake_timeout_s: float = 5.0
    half_open_max: int = 128
    """Handshakes under way that others began; further ones are ignored, and they retry."""
    retry_from: int = 32
    """From so many on, an address must first prove that it receives (RFC 9000 section 8.1.2)."""
    accepted_max: int = 1024
    """Connections that others began, all together."""
    connections_per_link_max: int = 8
    handshakes_per_s: float = 20.0
    """Per source address, with a burst of `handshakes_burst`."""
    handshakes_burst: int = 60
    joins_per_s: float = 1.0
    joins_burst: int = 10
    join_timeout_s: float = 10.0
    limited_addresses_max: int = 4096
    """Source addresses remembered for the limits; the longest unseen is forgotten first."""
    write_progress_s: float = 60.0
    """A stream whose reader takes nothing for so long is aborted."""
    drain_min_s: float = 2.0
    """A connection that lost to its twin stays this long at least: packets may still be on their way."""


def server_configuration(
    identity: Identity, certificate: x509.Certificate, settings: TransportSettings
) -> QuicConfiguration:
    """Return aioquic's configuration for the listening side: members and, apart, joins."""
    return _configuration(
        identity, certificate, settings, is_client=False, alpn=[ALPN_MESH, ALPN_JOIN]
    )


def client_configuration(
    identity: Identity, certificate: x509.Certificate, settings: TransportSettings, alpn: str
) -> QuicConfiguration:
    """Return aioquic's configuration for one dial under one protocol."""
    return _configuration(identity, certificate, settings, is_client=True, alpn=[alpn])


def _configuration(
    identity: Identity,
    certificate: x509.Certificate,
    settings: TransportSettings,
    *,
    is_client: bool,
    alpn: list[str],
) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=alpn,
        certificate=certificate,
        private_key=identity.private_key,
        # Chains and names mean nothing here: `handshake` proves id and credential instead.
        verify_mode=ssl.CERT_NONE,
        server_name=None,
        cipher_suites=[CipherSuite.AES_128_GCM_SHA256, CipherSuite.CHACHA20_POLY1305_SHA256],
        supported_versions=[QuicProtocolVersion.VERSION_1],
        congestion_control_algorithm=settings.congestion_control,
        connection_id_length=8,
        idle_timeout=settings.idle_timeout_s,
        initial_rtt=settings.initial_rtt_s,
        max_data=settings.connection_window_bytes,
        max_stream_data=settings.stream_window_bytes,
        max_datagram_size=settings.udp_payload_bytes,
        max_datagram_frame_size=DATAGRAM_MAX_BYTES + 16,
    )
