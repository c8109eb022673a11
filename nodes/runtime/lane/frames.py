"""The frames of one lane connection. Pure: bytes in, typed frames out, every length capped.

A connection carries one tunnel after another: OPEN, ACCEPT or REFUSE, then DATA and MESSAGE in any
order, END from each side, and it is free for the next OPEN; ABORT ends the connection too. Only END
is the end. MOVE, MOVED and SWITCH carry a running tunnel to another connection (`tunnel`).
Layout: kind (1 byte), length (3 bytes, big-endian), body. DATA bodies are passed on as they arrive.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from nodes.runtime.lane.settings import (
    DATA_MAX_BYTES,
    MESSAGE_MAX_BYTES,
    OPEN_MAX_BYTES,
    REASON_MAX_BYTES,
)

HEADER_BYTES: Final = 4
TUNNEL_ID_BYTES: Final = 16
_CODE_BYTES: Final = 2


class FrameKind(IntEnum):
    """The first byte of a frame."""

    READY = 1
    OPEN = 2
    ACCEPT = 3
    REFUSE = 4
    DATA = 5
    MESSAGE = 6
    END = 7
    ABORT = 8
    MOVE = 9
    MOVED = 10
    SWITCH = 11


_MAX_BODY: Final = {
    FrameKind.READY: 1,
    FrameKind.OPEN: OPEN_MAX_BYTES,
    FrameKind.ACCEPT: OPEN_MAX_BYTES,
    FrameKind.REFUSE: _CODE_BYTES + REASON_MAX_BYTES,
    FrameKind.DATA: DATA_MAX_BYTES,
    FrameKind.MESSAGE: MESSAGE_MAX_BYTES,
    FrameKind.END: 0,
    FrameKind.ABORT: _CODE_BYTES + REASON_MAX_BYTES,
    FrameKind.MOVE: TUNNEL_ID_BYTES,
    FrameKind.MOVED: 0,
    FrameKind.SWITCH: 0,
}
_MIN_BODY: Final = {
    FrameKind.READY: 1,
    FrameKind.OPEN: TUNNEL_ID_BYTES,
    FrameKind.REFUSE: _CODE_BYTES,
    FrameKind.ABORT: _CODE_BYTES,
    FrameKind.MOVE: TUNNEL_ID_BYTES,
}


class LaneFrameError(Exception):
    """The bytes are no frames of ours: the connection they came on is closed."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, or one part of a DATA frame: where those begin and end means nothing."""

    kind: FrameKind
    body: bytes


def head(kind: FrameKind, length: int) -> bytes:
    """Return the four bytes before a body of `length` bytes."""
    assert length <= _MAX_BODY[kind], f"{kind.name} frame of {length} bytes"
    return bytes([kind]) + length.to_bytes(3)


def encode(kind: FrameKind, body: bytes = b"") -> bytes:
    """Return a whole frame."""
    return head(kind, len(body)) + body


def refusal(kind: FrameKind, code: int, reason: str) -> bytes:
    """Return a REFUSE or ABORT frame."""
    return encode(kind, code.to_bytes(_CODE_BYTES) + reason.encode()[:REASON_MAX_BYTES])


def why(body: bytes) -> tuple[int, str]:
    """Return code and reason of a REFUSE or ABORT."""
    return int.from_bytes(body[:_CODE_BYTES]), body[_CODE_BYTES:].decode("utf-8", "replace")


class LaneFrameReader:
    """Bytes of one connection in, frames out. Keeps at most one frame that is not whole yet."""

    __slots__ = ("_held", "_rest")

    def __init__(self) -> None:
        self._held = b""
        self._rest = 0
        """Bytes of the DATA frame under way that have not come yet."""

    @property
    def at_boundary(self) -> bool:
        """True when no frame is under way."""
        return not self._held and not self._rest

    def feed(self, content: bytes) -> list[Frame]:
        """Return the frames, and parts of DATA frames, that `content` completes.

        Raises:
            LaneFrameError: unknown kind, or a length outside what its kind may have.
        """
        frames: list[Frame] = []
        view = self._held + content if self._held else content
        self._held = b""
        at, size = 0, len(view)
        while at < size:
            if self._rest:
                end = min(at + self._rest, size)
                frames.append(Frame(FrameKind.DATA, view[at:end]))
                self._rest -= end - at
                at = end
                continue
            if size - at < HEADER_BYTES:
                break
            kind, length = _head(view, at)
            if kind is FrameKind.DATA:
                self._rest = length
                at += HEADER_BYTES
                continue
            if size - at < HEADER_BYTES + length:
                break
            frames.append(Frame(kind, view[at + HEADER_BYTES : at + HEADER_BYTES + length]))
            at += HEADER_BYTES + length
        self._held = view[at:]
        return frames


def _head(view: bytes, at: int) -> tuple[FrameKind, int]:
    try:
        kind = FrameKind(view[at])
    except ValueError as error:
        raise LaneFrameError("unknown frame") from error
    length = int.from_bytes(view[at + 1 : at + HEADER_BYTES])
    if not _MIN_BODY.get(kind, 0) <= length <= _MAX_BODY[kind]:
        raise LaneFrameError(f"a {kind.name} frame of {length} bytes")
    return kind, length
