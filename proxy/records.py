"""What is kept of a finished request: one small record, and the last few of them."""

from collections import deque
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from proxy.failures import Try, reason
from proxy.router import Choice

RECORDS_MAX = 500
"""Records kept; the oldest goes first."""
TEXT_MAX = 400
"""Characters kept of an error's text, and of a name that a client made up."""


class Outcome(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    """The engine's whole answer was handed on, whatever its status."""
    REFUSED = "refused"
    """Answered here with an error, before any engine was asked or when none could answer."""
    CLIENT_GONE = "client_gone"
    """The client left before the end; the engine was told at once."""
    BROKEN_OFF = "broken_off"
    """The engine failed after the first byte."""
    STOPPED = "stopped"
    """This node, or its engine, was stopped in the middle of the answer."""


class Tried(msgspec.Struct, frozen=True, gc=False):
    """One host that was asked and could not answer."""

    node: str
    shown: str
    """The node's name and the start of its id, for people."""
    reason: str
    """The end of a sentence that begins with the node."""
    after_ms: float
    """From being asked to being given up."""

    @classmethod
    def of(cls, tried: Try) -> "Tried":
        """Return what is kept of a try."""
        upstream = tried.upstream
        text = reason(tried.error)[:TEXT_MAX]
        return cls(upstream.node_id, upstream.shown, text, tried.after_ms)


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """What went wrong with a request."""

    tries: tuple[Tried, ...] = ()
    """Who could not answer, in the order of being asked."""
    fault: str = ""
    """What the client was told; empty: another host answered."""


class RequestRecord(msgspec.Struct, frozen=True, gc=False):
    """One finished request. Of its body it holds the model's name, of its answer nothing."""

    id: str
    """The X-Request-Id, the client's or ours."""
    path: str
    model: str
    """The model that was chosen; empty when none was."""
    node: str
    """The node that answered; this one for answers made here."""
    status: int
    """0 when the client left before there was one."""
    streamed: bool
    ttfb_ms: float | None
    """From the request's arrival to the first answer byte; None: there was none."""
    total_ms: float
    tokens: int
    """Generated, from usage or counted from the stream; 0 when unknown."""
    outcome: Outcome
    retries: int
    """Candidates that failed before the one that answered."""
    prompt_tokens: int = 0
    """Read, from usage; 0 when unknown."""
    asked_by: str = ""
    """The peer or client for which this node's engine served it; empty: it was asked at this API."""
    asked: str = ""
    """The model's name as the client wrote it, cut off at `TEXT_MAX`; empty: it left the choice."""
    ended_s: float = 0.0
    """Unix time of the record."""
    choice: Choice | None = None
    """Who was to be asked, in this order, and why; None: nobody could answer."""
    trouble: Trouble | None = None
    """What went wrong on the way; None: nothing."""


class RecordRing:
    """The last `RECORDS_MAX` records, newest last."""

    def __init__(self, limit: int = RECORDS_MAX) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=limit)

    def add(self, record: RequestRecord) -> None:
        """Keep a record; the oldest goes when the ring is full."""
        self._records.append(record)

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(tuple(self._records))

    def __len__(self) -> int:
        return len(self._records)
