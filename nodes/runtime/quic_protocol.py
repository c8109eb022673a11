"""When a connection's packets go out: at once, at the end of the loop's turn, or with the next pieces.

aioquic sends after every packet that comes, re-arms its timer each time, and answers each packet with
one of its own. Here a turn's packets are answered together, small pieces that come soon after another
share a packet, acknowledgements wait a little for company, and a timer that is early is left alone.
Knows nothing of streams' meaning. Sources: RFC 9000 section 13.2 (acknowledgements), RFC 9002 section 6.
"""

import asyncio
from typing import Any

from aioquic import tls
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.connection import QuicConnection

from nodes.runtime.counters import Counted, Counters
from nodes.runtime.quic_streams import StreamTable
from nodes.runtime.transport_settings import STREAMS_ENDING_MAX, STREAMS_MAX, TransportSettings

TIMER_SLACK_S = 0.0005
"""A timer that fires so much early counts as due: the loop's clock and ours are not one."""


class LeanProtocol(QuicConnectionProtocol):
    """aioquic's protocol, sending less often."""

    def __init__(
        self, quic: QuicConnection, settings: TransportSettings, counters: Counters
    ) -> None:
        super().__init__(quic)
        self.settings = settings
        self.counters = counters
        self.table = StreamTable(
            quic, STREAMS_MAX + STREAMS_ENDING_MAX, settings.stream_window_bytes
        )
        self.last_received_s = 0.0
        """Loop time of the last packet, whatever it held."""
        self._last_transmit_s = 0.0
        self._lazy: asyncio.TimerHandle | None = None
        self._lazy_due_s = 0.0
        self._fired_s = 0.0
        """When the last timer was due: it may fire a little early, and must find that time has come."""
        self._unacknowledged_bytes = 0
        quic._ack_delay = settings.ack_delay_s

    def transmit(self) -> None:
        """Send what is due now, and arm the timer for the rest."""
        self._cancel_sending()
        now = max(self._loop.time(), self._fired_s)
        self._last_transmit_s = now
        transport = self._transport
        if transport is None:
            return
        space = self._quic._spaces.get(tls.Epoch.ONE_RTT)
        goes_out = self.table.has_work or self._quic._datagrams_pending
        if space is not None and space.ack_at is not None and goes_out:
            # What goes out anyway takes the acknowledgement along: one that is due, not due just now.
            space.ack_at = min(space.ack_at, now - TIMER_SLACK_S)
        for data, addr in self._quic.datagrams_to_send(now=now):
            transport.sendto(data, addr)
            self.counters.add(Counted.PACKETS_SENT)
            self.counters.add(Counted.BYTES_SENT, len(data))
        self._arm_timer()

    def transmit_lazily(self) -> None:
        """Send soon: at the end of this turn, or, right after other packets, a little later with more."""
        due_s = self._last_transmit_s + self.settings.coalesce_s
        if due_s <= self._loop.time():
            self._transmit_soon()
        else:
            self._transmit_by(due_s)

    def transmit_eventually(self) -> None:
        """Send with whatever goes out next, at the latest when an acknowledgement would."""
        self._transmit_by(self._loop.time() + self.settings.ack_delay_s)

    def _transmit_by(self, due_s: float) -> None:
        if self._transmit_task is not None:
            return
        if self._lazy is not None:
            if self._lazy_due_s <= due_s:
                return
            self._lazy.cancel()
        # Of uvloop's handles not every one knows when it is due.
        self._lazy_due_s = due_s
        self._lazy = self._loop.call_at(due_s, self.transmit)

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """Take one packet; answer it with what else is due in this turn, or when its ACK is."""
        now = self.last_received_s = self._loop.time()
        assert isinstance(data, bytes)
        self.counters.add(Counted.BYTES_RECEIVED, len(data))
        self._quic.receive_datagram(data, addr, now=now)
        self._process_events()
        if not self._quic._handshake_confirmed or self._quic._close_event is not None:
            # Little to gain there, and what is refused must not pile up within one turn.
            self.transmit()
        elif self._must_answer(len(data), now):
            self._transmit_soon()
        else:
            self._arm_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed: nothing goes out any more."""
        self._cancel_sending()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _must_answer(self, size: int, now: float) -> bool:
        quic = self._quic
        space = quic._spaces[tls.Epoch.ONE_RTT]
        if space.ack_at is None:
            self._unacknowledged_bytes = 0
        else:
            self._unacknowledged_bytes += size
            if self._unacknowledged_bytes >= self.settings.ack_at_bytes:
                # A bulk sender's window opens only with what is acknowledged.
                self._unacknowledged_bytes = 0
                space.ack_at = now
                return True
        return self.table.has_work or not quic._network_paths[0].is_validated

    def _cancel_sending(self) -> None:
        if self._transmit_task is not None:
            self._transmit_task.cancel()
            self._transmit_task = None
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None

    def _arm_timer(self) -> None:
        due_s = self._quic.get_timer()
        if due_s is None or (self._timer is not None and (self._timer_at or 0.0) <= due_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._timer_fired)
        self._timer_at = due_s

    def _timer_fired(self) -> None:
        """The timer may have been armed for what has passed since: then it is armed anew."""
        self._timer = None
        due_s = self._quic.get_timer()
        now = self._loop.time()
        if due_s is None or due_s > now + TIMER_SLACK_S:
            self._arm_timer()
            return
        self._timer_at = self._fired_s = due_s
        self._handle_timer()
