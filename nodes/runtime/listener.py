"""The listening side: which first packets may begin a handshake at all, and how many at a time.

Decides by source address, number of half-open handshakes and number of connections; who a peer is
comes later (`handshake`). Under pressure an address must first show that it receives (Retry, RFC
9000 section 8.1.2), so that spoofed first packets cost no state.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aioquic._buffer import Buffer
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.quic.retry import QuicRetryTokenHandler

from nodes.runtime.address_limits import AddressLimits
from nodes.runtime.connection import PeerConnection
from nodes.runtime.counters import Counted, Counters
from nodes.runtime.transport_settings import TransportSettings

_LONG_HEADER = 0x80
_INITIAL_MIN_BYTES = 1200


class Listener(QuicServer):
    """One UDP socket that others dial."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        make_connection: Callable[[QuicConnection], PeerConnection],
        refresh: Callable[[QuicConfiguration], None],
        settings: TransportSettings,
        counters: Counters,
    ) -> None:
        super().__init__(configuration=configuration, create_protocol=self._create)
        self._make_connection = make_connection
        self._refresh = refresh
        self._settings = settings
        self._counters = counters
        self._retry_tokens = QuicRetryTokenHandler()
        self._limits = AddressLimits(
            settings.handshakes_per_s, settings.handshakes_burst, settings.limited_addresses_max
        )
        self.half_open: set[PeerConnection] = set()
        self.accepted: set[PeerConnection] = set()

    @property
    def port(self) -> int:
        """The UDP port."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """Take one UDP packet from anybody."""
        assert isinstance(data, bytes)
        if not data:
            return
        try:
            if data[0] & _LONG_HEADER and not self._may_begin(data, addr):
                return
            super().datagram_received(data, addr)
        except Exception:  # hostile bytes before any connection: nothing but this packet may suffer
            self._counters.add(Counted.PACKETS_MALFORMED)

    def error_received(self, exc: Exception) -> None:
        """Ignore: on a socket of many peers nobody can tell whom it is about."""

    def settled(self, connection: PeerConnection) -> None:
        """The handshake is over, well or not."""
        self.half_open.discard(connection)

    def forget(self, connection: PeerConnection) -> None:
        """The connection is over."""
        self.half_open.discard(connection)
        self.accepted.discard(connection)

    def _may_begin(self, data: bytes, addr: Any) -> bool:
        """Return whether a long-header packet is to be looked at; sets whether a Retry is asked first."""
        header = pull_quic_header(
            Buffer(data=data), host_cid_length=self._configuration.connection_id_length
        )
        if (
            header.destination_cid in self._protocols
            or header.packet_type != QuicPacketType.INITIAL
        ):
            return True
        if header.version not in self._configuration.supported_versions:
            # Answered with the versions known here, in fewer bytes than came: what `port_probe` asks.
            return True
        if len(data) < _INITIAL_MIN_BYTES:
            return False
        full = len(self.half_open) >= self._settings.half_open_max
        if full or len(self.accepted) >= self._settings.accepted_max:
            self._counters.add(Counted.HANDSHAKES_LIMITED)
            return False
        # A token in the first packet answers a Retry of ours: it must be judged whatever the pressure.
        pressed = len(self.half_open) >= self._settings.retry_from
        retry = self._retry_tokens if header.token or pressed else None
        setattr(self, "_retry", retry)  # noqa: B010 - typed by aioquic as never None
        asking_only = pressed and not header.token
        if asking_only or self._limits.allow(str(addr[0]), asyncio.get_running_loop().time()):
            return True
        self._counters.add(Counted.HANDSHAKES_LIMITED)
        return False

    def _create(self, quic: QuicConnection, stream_handler: Any = None) -> PeerConnection:
        connection = self._make_connection(quic)
        self._counters.add(Counted.HANDSHAKES_STARTED)
        self.half_open.add(connection)
        self.accepted.add(connection)
        # A credential that was renewed since is shown from the next handshake on.
        self._refresh(self._configuration)
        return connection
