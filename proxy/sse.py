"""Server-sent events, followed but never decoded: where events end, and what the last ones said.

PURE. Source: HTML standard, section "Server-sent events" (parsing an event stream): lines end with
CRLF, LF or CR; an empty line ends an event; a line that starts with a colon is a comment.

`SseScanner.feed` returns the bytes that may be passed on: whole events only, byte for byte. What it
holds back is the beginning of an event; if the source dies, that half is dropped, so the reader
gets no half JSON. It does not know what the events mean, except `[DONE]` and where usage stands.
"""

import re

HOLD_MAX_BYTES = 1024 * 1024
"""The longest event held back; a longer one is passed through in pieces and noted as `split`."""

_BLANK_LINE = (b"\n\n", b"\r\r", b"\n\r")
"""One of these is in every pair of line ends that makes an empty line."""

_USAGE = re.compile(rb'"(?:usage|timings)"\s*:\s*\{')


class SseScanner:
    """Follows one event stream through chunks of any size."""

    __slots__ = ("_data_open", "_held", "_split", "_usage_line", "data_events", "done_seen")

    def __init__(self) -> None:
        self._held = bytearray()
        self._split = False
        self._data_open = False
        self._usage_line: bytes | None = None
        self.data_events = 0
        """Finished events with at least one data line, ``[DONE]`` not counted."""
        self.done_seen = False
        """Whether a finished event's data was exactly ``[DONE]``."""

    @property
    def complete(self) -> bool:
        """Whether everything fed so far ended with a finished event."""
        return not self._split and not self._held.strip(b"\r\n")

    @property
    def split(self) -> bool:
        """Whether the start of an unfinished event, too long to hold, was already passed on."""
        return self._split

    @property
    def usage_line(self) -> bytes | None:
        """The JSON text of the last data line that carried usage or timings; None: none did."""
        return self._usage_line

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be passed on now: all events that are whole by now, or nothing."""
        if not self._held and not self._split and chunk.endswith(b"\n\n"):
            self._note(chunk)
            return chunk
        return self._feed_general(chunk)

    def rest(self) -> bytes:
        """Return what is still held: for a source that ended cleanly without a last empty line."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def _feed_general(self, chunk: bytes) -> bytes:
        seam = max(0, len(self._held) - 2)
        self._held += chunk
        end = _events_end(self._held, seam)
        if end == 0:
            return self._overflow()
        out = bytes(self._held[:end])
        del self._held[:end]
        self._split = False
        self._note(out)
        return out

    def _overflow(self) -> bytes:
        if len(self._held) <= HOLD_MAX_BYTES:
            return b""
        # The last two bytes stay: they may be the first half of the empty line to come.
        out = bytes(self._held[:-2])
        del self._held[:-2]
        self._split = True
        return out

    def _note(self, events: bytes) -> None:
        last = b""
        for line in events.splitlines():
            if not line:
                if self._data_open:
                    self._data_open = False
                    self._finish(last)
            elif line.startswith(b"data") and (line[4:5] == b":" or len(line) == 4):
                self._data_open = True
                last = line
                if b'"usage"' in line or b'"timings"' in line:
                    self._note_usage(line)

    def _note_usage(self, line: bytes) -> None:
        if _USAGE.search(line):
            self._usage_line = line[5:].strip()

    def _finish(self, last: bytes) -> None:
        if len(last) <= 12 and last[5:].strip() == b"[DONE]":
            self.done_seen = True
        else:
            self.data_events += 1


def _events_end(held: bytearray, seam: int) -> int:
    """Return where the last whole event ends in `held`, 0 when none does. `seam`: where to look from."""
    end = 0
    for pair in _BLANK_LINE:
        at = held.rfind(pair, seam)
        if at >= 0:
            stop = at + 2
            if pair != b"\n\n" and held[stop : stop + 1] == b"\n":
                stop += 1
            end = max(end, stop)
    return end
