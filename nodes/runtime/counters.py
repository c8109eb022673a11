"""What the peer link counts, by stable names: read by `/metrics` and by tests."""

from collections import Counter
from enum import StrEnum


class Counted(StrEnum):
    """One line of the metrics each; gauges are read from the transport itself."""

    __hash__ = str.__hash__  # Enum's own is Python code, run several times for each packet.

    HANDSHAKES_STARTED = "handshakes_started"
    HANDSHAKES_COMPLETED = "handshakes_completed"
    HANDSHAKES_REFUSED = "handshakes_refused"
    HANDSHAKES_TIMED_OUT = "handshakes_timed_out"
    HANDSHAKES_LIMITED = "handshakes_limited"
    PACKETS_MALFORMED = "packets_malformed"
    PACKETS_SENT = "packets_sent"
    BYTES_SENT = "bytes_sent"
    """Of UDP payload: QUIC's own included, IP's and UDP's headers not."""
    BYTES_RECEIVED = "bytes_received"
    CONNECTIONS_LOST = "connections_lost"
    PROTOCOL_ERRORS = "protocol_errors"
    DATAGRAMS_SENT = "datagrams_sent"
    DATAGRAMS_RECEIVED = "datagrams_received"
    DATAGRAMS_DROPPED = "datagrams_dropped"
    STREAMS_OPENED = "streams_opened"
    STREAMS_ACCEPTED = "streams_accepted"
    STREAMS_REFUSED = "streams_refused"
    STREAMS_ABORTED = "streams_aborted"
    DIALS = "dials"
    DIALS_FAILED = "dials_failed"
    JOINS_ACCEPTED = "joins_accepted"
    JOINS_REFUSED = "joins_refused"
    TWINS_SEEN = "twins_seen"


class Counters:
    """Numbers that only grow, one for each `Counted`."""

    def __init__(self) -> None:
        self._counts: Counter[Counted] = Counter()

    def add(self, counted: Counted, amount: int = 1) -> None:
        """Count `amount` more."""
        self._counts[counted] += amount

    def __getitem__(self, counted: Counted) -> int:
        return self._counts[counted]

    def snapshot(self) -> dict[str, int]:
        """Return every name with its number, also those at 0."""
        return {counted.value: self._counts[counted] for counted in Counted}
