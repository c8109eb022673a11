"""The frames inside one QUIC stream. Pure: bytes in, typed frames out, every length capped.

A stream is: OPEN once, then DATA and CREDIT in any order, then END once; ABORT at any time, also after
END, where it gives up the other direction. QUIC's own end of a stream says nothing here: only END is the
end, so a stream cut short is never taken for a whole one.
Layout: kind (1 byte), length (3 bytes, big-endian), body. DATA bodies are passed on as they arrive.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HEADER_BYTES: Final = 4
MAX_DATA_BYTES: Final = 16 << 10
MAX_KIND_CHARS: Final = 32
MAX_REASON_BYTES: Final = 200
MAX_CREDIT_BYTES: Final = 1 << 24


class FrameKind(IntEnum):
    """The first byte of a frame."""

    OPEN = 1
    DATA = 2
    CREDIT = 3
    END = 4
    ABORT = 5


_MAX_BODY = {
    FrameKind.OPEN: MAX_KIND_CHARS,
    FrameKind.DATA: MAX_DATA_BYTES,
    FrameKind.CREDIT: 4,
    FrameKind.END: 0,
    FrameKind.ABORT: 2 + MAX_REASON_BYTES,
}


class FrameError(Exception):
    """The bytes are no frames of ours: the connection they came on is closed."""


@dataclass(frozen=True, slots=True)
class Open:
    """What the stream is for: a word such as ``request`` or ``gossip``."""

    kind: str


@dataclass(frozen=True, slots=True)
class Data:
    """Some bytes of the content; where frames begin and end means nothing."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Credit:
    """The reader has taken so many bytes: as many more may be sent."""

    grant_bytes: int


@dataclass(frozen=True, slots=True)
class End:
    """All content has been sent."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The sender gives up, both ways."""

    code: int
    reason: str


Frame = Open | Data | Credit | End | Abort


def encode(frame: Frame) -> bytes:
    """Return the frame as bytes; the content of a Data must not exceed `MAX_DATA_BYTES`."""
    match frame:
        case Open(kind):
            return _framed(FrameKind.OPEN, kind.encode("ascii"))
        case Data(content):
            return _framed(FrameKind.DATA, content)
        case Credit(grant_bytes):
            return _framed(FrameKind.CREDIT, grant_bytes.to_bytes(4))
        case End():
            return _framed(FrameKind.END, b"")
        case Abort(code, reason):
            text = reason.encode()[:MAX_REASON_BYTES]
            return _framed(FrameKind.ABORT, code.to_bytes(2) + text)


def _framed(kind: FrameKind, body: bytes) -> bytes:
    assert len(body) <= _MAX_BODY[kind], f"{kind.name} frame of {len(body)} bytes"
    return bytes([kind]) + len(body).to_bytes(3) + body


class FrameReader:
    """Bytes of one stream in, frames out. Keeps at most one frame head and one small body."""

    __slots__ = ("_held", "_opened", "_rest")

    def __init__(self, *, expects_open: bool) -> None:
        """`expects_open`: the other side opens this stream; else it only answers on ours."""
        self._held = b""
        self._rest = 0
        """Bytes of the DATA frame under way that have not come yet."""
        self._opened = not expects_open

    @property
    def at_boundary(self) -> bool:
        """True when no frame is under way."""
        return not self._held and not self._rest

    def feed(self, content: bytes) -> list[Frame]:
        """Return the frames, and parts of DATA frames, that `content` completes.

        Raises:
            FrameError: unknown kind, a length over its cap, no OPEN first, or a malformed body.
        """
        frames: list[Frame] = []
        view = self._held + content if self._held else content
        self._held = b""
        at = 0
        while at < len(view):
            if self._rest:
                part = view[at : at + self._rest]
                at += len(part)
                self._rest -= len(part)
                frames.append(Data(part))
                continue
            if len(view) - at < HEADER_BYTES:
                break
            kind, length = self._head(view, at)
            if kind is FrameKind.DATA:
                self._rest = length
                at += HEADER_BYTES
                continue
            if len(view) - at < HEADER_BYTES + length:
                break
            body = view[at + HEADER_BYTES : at + HEADER_BYTES + length]
            frames.append(_parsed(kind, body))
            at += HEADER_BYTES + length
        self._held = view[at:]
        return frames

    def _head(self, view: bytes, at: int) -> tuple[FrameKind, int]:
        try:
            kind = FrameKind(view[at])
        except ValueError as error:
            raise FrameError("unknown frame") from error
        length = int.from_bytes(view[at + 1 : at + HEADER_BYTES])
        if length > _MAX_BODY[kind]:
            raise FrameError("frame too long")
        if self._opened == (kind is FrameKind.OPEN):
            raise FrameError("a stream opens once, first")
        # An OPEN is marked when its head is whole: its body cannot be refused half-way.
        if kind is FrameKind.OPEN and len(view) - at >= HEADER_BYTES + length:
            self._opened = True
        return kind, length


def _parsed(kind: FrameKind, body: bytes) -> Frame:
    try:
        if kind is FrameKind.OPEN:
            word = body.decode("ascii")
            if not word or not word.replace("-", "").isalnum():
                raise FrameError("malformed kind of stream")
            return Open(word)
        if kind is FrameKind.CREDIT:
            grant = int.from_bytes(body)
            if len(body) != 4 or not 0 < grant <= MAX_CREDIT_BYTES:
                raise FrameError("malformed credit")
            return Credit(grant)
        if kind is FrameKind.ABORT:
            if len(body) < 2:
                raise FrameError("malformed abort")
            return Abort(int.from_bytes(body[:2]), body[2:].decode("utf-8", "replace"))
    except UnicodeDecodeError as error:
        raise FrameError("malformed kind of stream") from error
    return End()
