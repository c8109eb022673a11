"""One QUIC connection to one proven peer: aioquic's events in, streams and datagrams out.

Decides nothing about peers or which connection is in use (`link`, `transport`); it greets (`hello`),
keeps itself alive, bounds and prunes its streams, and closes when the other side breaks the rules.
aioquic's own stream readers are not used: they are never pruned and do not see resets (design.md).
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from aioquic.quic import events
from aioquic.quic.connection import QuicConnection

from nodes.mesh.ids import NodeId
from nodes.runtime import handshake
from nodes.runtime.counters import Counted, Counters
from nodes.runtime.frames import FrameError
from nodes.runtime.handshake import Admission, ProvenPeer
from nodes.runtime.quic_protocol import LeanProtocol
from nodes.runtime.streams import AbortCode, Stream
from nodes.runtime.transport_settings import (
    DATAGRAM_MAX_BYTES,
    PENDING_DATAGRAMS_MAX,
    STREAMS_MAX,
    TransportSettings,
)

CLOSE_NORMAL = 0
CLOSE_PROTOCOL = 0x1001
CLOSE_REPLACED = 0x1002
CLOSE_REFUSED = 0x1003
CLOSE_SHUTDOWN = 0x1004
CLOSE_TIMEOUT = 0x1005
LAST_WORDS_BEHIND_MAX_BYTES = 16 << 10
"""Unsent bytes of a stream beyond which its abort does not queue behind them, but resets them away."""
_CRYPTO_ERROR = 0x100
"""RFC 9000 section 20.1: 0x100 + TLS alert; as a transport error, not as one of ours."""


class ConnectionOwner(Protocol):
    """Who is told what happens on a connection."""

    def proven(self, connection: "PeerConnection") -> None:
        """Both ends are proven (on the dialling side: and accepted)."""

    def stream_accepted(self, connection: "PeerConnection", stream: Stream) -> None:
        """The peer opened a stream and said what for."""

    def datagram_received(self, connection: "PeerConnection", content: bytes) -> None:
        """A datagram came."""

    def ended(self, connection: "PeerConnection", reason: str) -> None:
        """The connection is over; told once, after all its streams were told."""


class PeerConnection(LeanProtocol):
    """One connection. `peer` is set from `proven` on."""

    def __init__(
        self,
        quic: QuicConnection,
        owner: ConnectionOwner,
        admission: Admission,
        settings: TransportSettings,
        counters: Counters,
        stream_handler: Any = None,
    ) -> None:
        super().__init__(quic, settings, counters)
        handshake.require_proof(quic, admission)
        self.owner = owner
        self.dialled = quic._is_client
        """True when this side began it."""
        self.peer: ProvenPeer | None = None
        self.end_reason: str | None = None
        """Why it is over; None while it is not."""
        self.end_code = 0
        """QUIC's code of the end: below 0x100 and 0x100 + TLS alert are transport errors, see CLOSE_*."""
        self.streams: dict[int, Stream] = {}
        self.on_socket_error: Callable[[OSError], None] = lambda error: None
        self.on_refused: Callable[[], None] = lambda: None
        """Told each time the peer's machine says that its port is closed; of a dialled connection."""
        self._closed_ids: set[int] = set()
        self._completed = False
        self._last_sent_s = 0.0
        self._keepalive: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = self._loop.call_later(
            settings.handshake_timeout_s, self._handshake_late
        )

    @property
    def peer_id(self) -> NodeId:
        """The proven id; only after `proven`."""
        assert self.peer is not None
        return self.peer.node_id

    @property
    def is_open(self) -> bool:
        """True from `proven` until the end."""
        return self.peer is not None and self.end_reason is None

    @property
    def remote_address(self) -> tuple[str, int] | None:
        """Where packets go now: host and port; None before the first one."""
        place = self._quic.get_peer_address()
        return (str(place[0]), int(place[1])) if place else None

    @property
    def rtt_s(self) -> float | None:
        """The smoothed round trip; None before the first sample."""
        loss = self._quic._loss
        return loss._rtt_smoothed if loss._rtt_initialized else None

    # --- what the owner asks ----------------------------------------------------------------------

    def open_stream(self, kind: str) -> Stream:
        """Return a new stream; the caller has checked `has_room`."""
        assert self.is_open
        stream_id = self._quic.get_next_available_stream_id()
        stream = Stream(self, stream_id, kind, self.settings.write_progress_s)
        self.streams[stream_id] = stream
        self.counters.add(Counted.STREAMS_OPENED)
        stream.open()
        return stream

    @property
    def has_room(self) -> bool:
        """True while another stream may be opened here."""
        return self.is_open and len(self.streams) < STREAMS_MAX

    def send_datagram(self, content: bytes) -> bool:
        """Send without any promise; return False when it was dropped here (closed, or too many wait)."""
        assert len(content) <= DATAGRAM_MAX_BYTES, f"datagram of {len(content)} bytes"
        if not self.is_open or len(self._quic._datagrams_pending) >= PENDING_DATAGRAMS_MAX:
            self.counters.add(Counted.DATAGRAMS_DROPPED)
            return False
        self._quic.send_datagram_frame(content)
        self.counters.add(Counted.DATAGRAMS_SENT)
        self._last_sent_s = self._loop.time()
        self._transmit_soon()
        return True

    def nudge(self) -> None:
        """Send something that a living peer answers at once."""
        if self.is_open:
            self._quic.send_ping(0)
            self.transmit()

    def end(self, code: int, reason: str) -> None:
        """Close now. The owner is told before this returns, so nothing uses it any more."""
        if self.end_reason is not None:
            return
        # After hostile bytes aioquic may be in no state to say goodbye: then it just falls silent.
        with contextlib.suppress(Exception):
            super().close(code, reason[:100])
        self.end_code = code
        self._over(reason)

    # --- StreamCarrier ----------------------------------------------------------------------------

    def send_bytes(
        self, stream_id: int, content: bytes, *, finish: bool, lazily: bool = False
    ) -> None:
        """Hand bytes of a stream to QUIC; `lazily`: they may wait a little for others.

        A bare end waits longest: both sides have said theirs in frames by then.
        """
        sending = self._quic._streams.get(stream_id)
        if self.end_reason is not None or (sending is not None and not _can_write(sending)):
            return
        if sending is None and stream_id not in self.streams:
            return
        self._quic.send_stream_data(stream_id, content, end_stream=finish)
        self.table.mark(stream_id)
        self._last_sent_s = self._loop.time()
        if finish and not content:
            self.transmit_eventually()
        elif lazily:
            self.transmit_lazily()
        else:
            self._transmit_soon()

    def abandon(self, stream_id: int, code: int, last_words: bytes) -> None:
        """Let go of both directions of a stream; `last_words` go out if little waits before them."""
        self.counters.add(Counted.STREAMS_ABORTED)
        stream = self._quic._streams.get(stream_id)
        if self.end_reason is not None or stream is None:
            return
        if last_words and _can_write(stream) and _little_waits(stream, len(last_words)):
            # The words alone: a STOP_SENDING would arrive before them, and say less. Who reads them lets
            # go of the other direction, too.
            self._quic.send_stream_data(stream_id, last_words, end_stream=True)
            self.table.mark(stream_id)
            self._transmit_soon()
            return
        if not stream.sender.is_finished:
            self._quic.reset_stream(stream_id, code)
        if not stream.receiver.is_finished:
            self._quic.stop_stream(stream_id, code)
        self.table.mark(stream_id)
        self._transmit_soon()

    def stream_closed(self, stream: Stream) -> None:
        """Forget a stream: nothing more will come or go on it."""
        if self.streams.pop(stream.stream_id, None) is None or self._is_ours(stream.stream_id):
            return
        self._closed_ids.add(stream.stream_id)
        if len(self._closed_ids) > 2 * STREAMS_MAX:
            # What aioquic has discarded can bring no more events; the rest is under its own limit.
            self._closed_ids &= self._quic._streams.keys()

    # --- aioquic ----------------------------------------------------------------------------------

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """Take one UDP packet. Whatever it holds, nothing but this connection can suffer."""
        try:
            super().datagram_received(data, addr)
        except Exception as error:  # hostile bytes in a large parser: no list of types is complete
            self.counters.add(Counted.PACKETS_MALFORMED)
            self.end(CLOSE_PROTOCOL, f"malformed packet ({type(error).__name__})")
        self._look()

    def _handle_timer(self) -> None:
        super()._handle_timer()
        self._look()

    def error_received(self, exc: Exception) -> None:
        """The socket reported something, such as a refused port; only a dialled one hears of its peer."""
        if isinstance(exc, OSError):
            self.on_socket_error(exc)
        if isinstance(exc, ConnectionRefusedError):
            self.on_refused()

    def quic_event_received(self, event: events.QuicEvent) -> None:
        """Take one event of aioquic."""
        match event:
            case events.StreamDataReceived(data=data, end_stream=end_stream, stream_id=stream_id):
                self.table.received(stream_id, finished=end_stream)
                self._stream_bytes(stream_id, data, end_stream)
            case events.DatagramFrameReceived(data=data):
                self._datagram(data)
            case (
                events.StreamReset(error_code=code, stream_id=stream_id)
                | events.StopSendingReceived(error_code=code, stream_id=stream_id)
            ):
                self.table.mark(stream_id)
                stream = self.streams.get(stream_id)
                if stream is not None:
                    stream.was_reset(code)
            case events.ConnectionTerminated(error_code=code, reason_phrase=reason):
                if not self._completed and code >= _CRYPTO_ERROR:
                    self.counters.add(Counted.HANDSHAKES_REFUSED)
                self._over(
                    reason or ("idle" if code == 0 and self._completed else f"code {code:#x}")
                )
            case _:
                pass

    # --- inner ------------------------------------------------------------------------------------

    def _look(self) -> None:
        """See what aioquic has no event for, or tells only after a drain of three round trips."""
        closing = self._quic._close_event
        if closing is not None:
            self._terminated(closing.error_code, closing.reason_phrase)
        elif not self._completed and self.end_reason is None and self._is_complete():
            self._complete()

    def _terminated(self, code: int, reason: str) -> None:
        if self.end_reason is None:
            if not self._completed and _CRYPTO_ERROR <= code <= _CRYPTO_ERROR + 0xFF:
                self.counters.add(Counted.HANDSHAKES_REFUSED)
            self.end_code = code
            self._over(reason or f"closed with code {code:#x}")

    def _is_complete(self) -> bool:
        if handshake.proven_peer(self._quic) is None or not self._quic._handshake_complete:
            return False
        # A client is done before its certificate is judged: only the server's word settles it.
        return not self.dialled or handshake.is_confirmed(self._quic)

    def _complete(self) -> None:
        self._completed = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self.peer = handshake.proven_peer(self._quic)
        self.counters.add(Counted.HANDSHAKES_COMPLETED)
        self._last_sent_s = self.last_received_s = self._loop.time()
        self._arm_keepalive()
        self.owner.proven(self)

    def _stream_bytes(self, stream_id: int, content: bytes, finished: bool) -> None:
        if self.end_reason is not None:
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self._is_ours(stream_id) or stream_id in self._closed_ids:
                return
            stream = Stream(self, stream_id, "", self.settings.write_progress_s)
            self.streams[stream_id] = stream
        try:
            opened = stream.received(content, finished)
        except FrameError as error:
            self.counters.add(Counted.PROTOCOL_ERRORS)
            self.end(CLOSE_PROTOCOL, f"protocol error: {error}")
            return
        if opened is not None:
            self._accept(stream)

    def _accept(self, stream: Stream) -> None:
        if not self.is_open:
            # 1-RTT data can arrive with the packet that completes the handshake.
            if self._is_complete() and self.end_reason is None:
                self._complete()
            else:
                return
        self.counters.add(Counted.STREAMS_ACCEPTED)
        self.owner.stream_accepted(self, stream)

    def _datagram(self, content: bytes) -> None:
        if self.is_open and len(content) <= DATAGRAM_MAX_BYTES:
            self.counters.add(Counted.DATAGRAMS_RECEIVED)
            self.owner.datagram_received(self, content)
        else:
            self.counters.add(Counted.DATAGRAMS_DROPPED)

    def _arm_keepalive(self) -> None:
        quiet_s = self._loop.time() - self._last_sent_s
        left_s = self.settings.keepalive_s - quiet_s
        if left_s <= 0:
            self._quic.send_ping(0)
            self._last_sent_s = self._loop.time()
            self.transmit()
            left_s = self.settings.keepalive_s
        self._keepalive = self._loop.call_later(left_s, self._arm_keepalive)

    def _handshake_late(self) -> None:
        self._deadline = None
        self.counters.add(Counted.HANDSHAKES_TIMED_OUT)
        self.end(CLOSE_TIMEOUT, "no answer in time")

    def _over(self, reason: str) -> None:
        if self.end_reason is not None:
            return
        self.end_reason = reason or "closed"
        for timer in (self._deadline, self._keepalive):
            if timer is not None:
                timer.cancel()
        for stream in tuple(self.streams.values()):
            stream.lost(self.end_reason)
        self.streams.clear()
        self._closed_ids.clear()
        self.owner.ended(self, self.end_reason)

    def _is_ours(self, stream_id: int) -> bool:
        return (stream_id % 2 == 0) == self.dialled


def _can_write(stream: Any) -> bool:
    sender = stream.sender
    return (
        sender._buffer_fin is None and sender._reset_error_code is None and not sender.is_finished
    )


def _little_waits(stream: Any, size: int) -> bool:
    """Return whether `size` more bytes would go out soon: behind little, and within the peer's window."""
    sender = stream.sender
    unsent: int = sender._buffer_stop - sender.next_offset
    allowed: int = stream.max_stream_data_remote - sender._buffer_stop
    return unsent <= LAST_WORDS_BEHIND_MAX_BYTES and size <= allowed


__all__ = ["AbortCode", "ConnectionOwner", "PeerConnection"]
