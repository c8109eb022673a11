"""The words of a request's way through a peer link: its head, the answer's head, refusals and aborts.

PURE. A stream of kind `request` carries, each way, one head (4 bytes of length, then MessagePack) and
the body's bytes as they are. A head that is newer is read by ignoring fields it does not know. The
receiving end takes nothing on trust: paths, methods and header lines are judged again, because the
engine behind it answers more than the API shows (`proxy.paths`).
"""

import re
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Annotated, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta

from nodes.runtime.streams import OWN_CODES_FROM, AbortCode
from nodes.runtime.unpack import UNPACK_FAULTS
from proxy.inbound import NOT_FORWARDED
from proxy.paths import Kind, Route, find
from proxy.upstream import Header, UpstreamTrouble

REQUEST_KIND = "request"
HEAD_MAX_BYTES = 96 * 1024
"""An encoded head: `ApiConfig.head_limit_bytes` of the client's own headers, and what is put around them."""
HEADERS_MAX = 256
HOPS_MAX = 1
"""Peer links that a request may pass: who receives it serves it from its own engine or refuses."""
LENGTH_BYTES = 4
SHOWN_CHARS_MAX = 200

_INFERENCE = frozenset((Kind.JSON, Kind.EMBEDDINGS, Kind.FORM, Kind.OPAQUE))
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
"""RFC 9110 section 5.6.2: a token."""
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
"""RFC 9110 section 5.5: no control characters, above all no line ends, so nobody adds lines of his own."""
_TARGET = re.compile(rb"/[!-~]*")
_FOR_ONE_HOP = frozenset(
    b"connection keep-alive transfer-encoding te trailer upgrade proxy-connection "
    b"proxy-authenticate proxy-authorization".split()
)
"""RFC 9110 section 7.6.1: what belongs to the connection with the engine and ends there."""

_Short = Annotated[str, Meta(max_length=256)]
_Pair = tuple[bytes, bytes]
_Headers = Annotated[tuple[_Pair, ...], Meta(max_length=HEADERS_MAX)]


class TunnelError(Exception):
    """The other side sent no head of ours. `str()` says what is wrong with it."""


class RefusalWord(StrEnum):
    """Why a node did not take a request, or has no first byte for it. An unknown word counts as FAILED."""

    NOT_SERVED = "not_served"
    LOADING = "loading"
    DRAINING = "draining"
    STOPPING = "stopping"
    BUSY = "busy"
    LOOP = "loop"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNREACHABLE = "unreachable"
    DIED = "died"
    SLOW = "slow"
    BROKEN = "broken"
    FAILED = "failed"


TROUBLE_OF = {
    RefusalWord.NOT_SERVED: UpstreamTrouble.NOT_SERVED,
    RefusalWord.LOADING: UpstreamTrouble.LOADING,
    RefusalWord.DRAINING: UpstreamTrouble.DRAINING,
    RefusalWord.STOPPING: UpstreamTrouble.DRAINING,
    RefusalWord.BUSY: UpstreamTrouble.BUSY,
    RefusalWord.LOOP: UpstreamTrouble.NOT_SERVED,
    RefusalWord.MALFORMED: UpstreamTrouble.BROKEN,
    RefusalWord.TOO_LARGE: UpstreamTrouble.TOO_LARGE,
    RefusalWord.UNREACHABLE: UpstreamTrouble.UNREACHABLE,
    RefusalWord.DIED: UpstreamTrouble.DIED,
    RefusalWord.SLOW: UpstreamTrouble.SLOW,
    RefusalWord.BROKEN: UpstreamTrouble.BROKEN,
    RefusalWord.FAILED: UpstreamTrouble.DIED,
}
"""What the sender makes of a refusal."""

WORD_OF = {
    UpstreamTrouble.UNREACHABLE: RefusalWord.UNREACHABLE,
    UpstreamTrouble.DIED: RefusalWord.DIED,
    UpstreamTrouble.SLOW: RefusalWord.SLOW,
    UpstreamTrouble.BUSY: RefusalWord.BUSY,
    UpstreamTrouble.BROKEN: RefusalWord.BROKEN,
}
"""How the serving node says what its own engine did."""


class TunnelAbort(IntEnum):
    """Why a stream ended early, besides `streams.AbortCode`: the link lives, the engine does not."""

    ENGINE_DIED = OWN_CODES_FROM
    ENGINE_SLOW = OWN_CODES_FROM + 1
    ENGINE_BROKEN = OWN_CODES_FROM + 2
    STOPPED = OWN_CODES_FROM + 3
    """The model is being dropped there, or the node stops."""


ABORT_OF = {
    UpstreamTrouble.DIED: TunnelAbort.ENGINE_DIED,
    UpstreamTrouble.SLOW: TunnelAbort.ENGINE_SLOW,
    UpstreamTrouble.BROKEN: TunnelAbort.ENGINE_BROKEN,
}

_TROUBLE_OF_ABORT: dict[int, UpstreamTrouble] = {
    TunnelAbort.ENGINE_DIED: UpstreamTrouble.DIED,
    TunnelAbort.ENGINE_SLOW: UpstreamTrouble.SLOW,
    TunnelAbort.ENGINE_BROKEN: UpstreamTrouble.BROKEN,
    TunnelAbort.STOPPED: UpstreamTrouble.DRAINING,
    AbortCode.REFUSED: UpstreamTrouble.NOT_SERVED,
    AbortCode.INTERNAL: UpstreamTrouble.DIED,
    AbortCode.CANCELLED: UpstreamTrouble.DIED,
    AbortCode.TRUNCATED: UpstreamTrouble.LINK_LOST,
    AbortCode.LINK_LOST: UpstreamTrouble.LINK_LOST,
    AbortCode.STALLED: UpstreamTrouble.LINK_LOST,
}


def trouble_of_abort(code: int) -> UpstreamTrouble:
    """Return what an early end of the stream says; LINK_LOST alone speaks against the peer itself."""
    return _TROUBLE_OF_ABORT.get(code, UpstreamTrouble.DIED)


class RequestHead(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the sender asks. Its body follows, `body_bytes` long."""

    version: int = 1
    hops: int = 1
    """Peer links passed when this arrives, the present one counted."""
    model: _Short
    """The exact name that the sender's table has; the receiver serves this one or refuses."""
    method: Annotated[bytes, Meta(max_length=16)]
    target: Annotated[bytes, Meta(max_length=65536)]
    headers: _Headers = ()
    body_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 0
    left_s: Annotated[float, Meta(gt=0, le=1e6)]
    """Seconds left to the first byte, as of sending; the sender gives up then."""


class AnswerHead(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the receiver says first: a refusal and nothing more, or the engine's status and headers."""

    version: int = 1
    refusal: _Short = ""
    """A `RefusalWord`; empty: the engine's answer follows."""
    text: Annotated[str, Meta(max_length=1024)] = ""
    """For people: more about the refusal."""
    progress: float | None = None
    phase: _Short = ""
    status: Annotated[int, Meta(ge=0, le=999)] = 0
    headers: _Headers = ()


_Head = TypeVar("_Head", RequestHead, AnswerHead)
_REQUEST = msgspec.msgpack.Decoder(RequestHead)
_ANSWER = msgspec.msgpack.Decoder(AnswerHead)


def encode(head: RequestHead | AnswerHead) -> bytes:
    """Return the head as it travels. Raises TunnelError when it is over `HEAD_MAX_BYTES`."""
    content = msgspec.msgpack.encode(head)
    if len(content) > HEAD_MAX_BYTES:
        raise TunnelError("a head that is too long")
    return len(content).to_bytes(LENGTH_BYTES) + content


def length_of(prefix: bytes) -> int:
    """Return how long the head is that follows these `LENGTH_BYTES`. Raises TunnelError."""
    length = int.from_bytes(prefix)
    if not 0 < length <= HEAD_MAX_BYTES:
        raise TunnelError("a head of an impossible length")
    return length


def decode_request(content: bytes) -> RequestHead:
    """Return the head of a request. Raises TunnelError."""
    return _decoded(content, _REQUEST)


def decode_answer(content: bytes) -> AnswerHead:
    """Return the head of an answer, safe to hand to a client. Raises TunnelError."""
    head = _decoded(content, _ANSWER)
    if not head.refusal:
        if not 200 <= head.status <= 999:
            raise TunnelError("an answer without a status")
        _check_headers(head.headers, frozenset())
    return head


def check_request(head: RequestHead) -> Route:
    """Return the route of a request that may reach the engine.

    Raises TunnelError: a path that the API does not pass on, or what would not be one request.
    """
    if not _TARGET.fullmatch(head.target):
        raise TunnelError("a malformed target")
    path = unquote_to_bytes(head.target.partition(b"?")[0]).decode("utf-8", "replace")
    route = find(path)
    if route is None or route.kind not in _INFERENCE:
        raise TunnelError("a path that is not passed on")
    if head.method.decode("ascii", "replace") not in route.methods:
        raise TunnelError("a method that this path does not take")
    _check_headers(head.headers, _ENDING_HERE)
    return route


_ENDING_HERE = NOT_FORWARDED - {b"x-request-id"}
"""Of a request, headers that the sender's own front has taken out: never sent by one of us."""


def refusal_word(text: str) -> RefusalWord:
    """Return the refusal that a word means."""
    try:
        return RefusalWord(text)
    except ValueError:
        return RefusalWord.FAILED


def end_to_end(headers: Sequence[Header]) -> tuple[Header, ...]:
    """Return an engine's headers without those of its own connection."""
    return tuple(header for header in headers if header[0] not in _FOR_ONE_HOP)


def shown(text: str) -> str:
    """Return another node's words as they may stand in an error text: short, printable."""
    return "".join(c if c.isprintable() else " " for c in text[:SHOWN_CHARS_MAX])


def _decoded(content: bytes, decoder: "msgspec.msgpack.Decoder[_Head]") -> _Head:
    try:
        return decoder.decode(content)
    except UNPACK_FAULTS as error:
        raise TunnelError("a malformed head") from error


def _check_headers(headers: Sequence[Header], unwanted: frozenset[bytes]) -> None:
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise TunnelError("a malformed header")
        if name.lower() in unwanted:
            raise TunnelError("a header that ends at the sender")
