"""llama.cpp's RPC protocol as far as a tunnel must know it. PURE: bytes in, events out.

Decides where a request ends, which one sets a tensor or offers a hash, and what of HELLO is changed.
Everything else passes as it is. A request is `command u8 | size u64 | payload`, a response
`size u64 | payload`, all little-endian. The client waits for one answer before its next request, so
an answer of ours never overtakes one of the server's.

Source: ggml-rpc.cpp of protocol version 8 (build 0.7.0). The layout of SET_TENSOR changed before
(version 8 brought the cache flag), so of any other version nothing is recognised.
"""

import struct
from dataclasses import dataclass
from typing import Final

KNOWN_MAJORS: Final = frozenset({8})
"""Versions whose messages have the layout below, seen on the wire."""
SET_TENSOR: Final = 6
SET_TENSOR_HASH: Final = 7
HELLO: Final = 14
REQUEST_HEAD: Final = struct.Struct("<BQ")
RESPONSE_HEAD: Final = struct.Struct("<Q")
TENSOR_BYTES: Final = 296
"""A tensor's description: id, type, buffer, shape, strides, operation, sources, data, name."""
CACHE_FLAG_AT: Final = TENSOR_BYTES
SET_TENSOR_BYTES: Final = TENSOR_BYTES + 1 + 8
"""Before the data of SET_TENSOR: the description, the cache flag, the offset."""
HASH_OFFER_BYTES: Final = TENSOR_BYTES + 8 + 8
HASH_MISS: Final = RESPONSE_HEAD.pack(1) + b"\0"
"""The answer to a hash offer: not here, send the data."""
WHOLE_MAX_BYTES: Final = 64 << 10
"""A message up to this size is passed on once it is whole; a larger one as it comes."""
SIZE_MAX_BYTES: Final = 1 << 42
"""A message that claims more is none: the bytes are of another protocol."""
HELLO_MAX_BYTES: Final = 64
CAPABILITY_BYTES: Final = 24
_VERSION_BYTES: Final = 4
_TYPE = struct.Struct("<I")
_SHAPE = struct.Struct("<4I")
_OFFSET = struct.Struct("<Q")
_TYPE_AT, _SHAPE_AT, _NAME_AT, _NAME_BYTES = 8, 20, 228, 64


@dataclass(frozen=True, slots=True)
class TensorKey:
    """Which tensor: what a description and a file's header have in common."""

    name: str
    kind: int
    """ggml's type number."""
    shape: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Pass:
    """Bytes to pass on as they are."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """The greeting, its capability bytes zeroed; the answer says the version."""

    content: bytes


@dataclass(frozen=True, slots=True)
class HashOffer:
    """The client asks whether the server has data of this hash for a weight."""

    content: bytes
    """The whole request, to pass on if it is not answered here."""
    key: TensorKey
    offset: int


@dataclass(frozen=True, slots=True)
class TensorStart:
    """A weight is set; `data_bytes` follow. The reader stands before the data."""

    head: bytes
    """The request up to its data, `REQUEST_HEAD` included."""
    key: TensorKey
    offset: int
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Foreign:
    """This is no protocol that is known here: from now on everything just passes."""

    reason: str


Event = Pass | Hello | HashOffer | TensorStart | Foreign


def tensor_key(description: bytes) -> TensorKey:
    """Return which tensor a description (at least `TENSOR_BYTES`) is of."""
    name = description[_NAME_AT : _NAME_AT + _NAME_BYTES]
    return TensorKey(
        name[: name.find(b"\0")].decode("utf-8", "replace") if b"\0" in name else "",
        _TYPE.unpack_from(description, _TYPE_AT)[0],
        _SHAPE.unpack_from(description, _SHAPE_AT),
    )


def set_tensor_head(description_and_offset: bytes, data_bytes: int) -> bytes:
    """Return a SET_TENSOR request up to its data, the cache flag cleared.

    `description_and_offset` are the `SET_TENSOR_BYTES` of an earlier one.
    """
    assert len(description_and_offset) == SET_TENSOR_BYTES
    cleared = bytearray(description_and_offset)
    cleared[CACHE_FLAG_AT] = 0
    return REQUEST_HEAD.pack(SET_TENSOR, SET_TENSOR_BYTES + data_bytes) + cleared


class RequestReader:
    """Splits what a client sends. Holds at most one message that is not whole, `WHOLE_MAX_BYTES`.

    Feed it, then take events with `next` until it returns None. After a `TensorStart` the caller may
    claim the data (`claim`); else the head and the data come as `Pass`.
    """

    def __init__(self, weights: frozenset[str]) -> None:
        """`weights` are the names of tensors that are worth an event; others just pass."""
        self.recognising = False
        """Set once HELLO's answer named a known version."""
        self._weights = weights
        self._held = bytearray()
        self._rest = 0
        """Bytes still to come of a message that is passed on as it comes."""
        self._greeted = False
        self._foreign = ""
        self._offered: TensorStart | None = None

    @property
    def foreign(self) -> str:
        """Why everything just passes; empty: it does not."""
        return self._foreign

    def feed(self, content: bytes | memoryview) -> None:
        """Take what the client sent."""
        self._held += content

    def give_up(self, reason: str) -> None:
        """Let everything pass from now on."""
        self._foreign = self._foreign or reason

    def claim(self) -> bytes:
        """Return what has come of the offered tensor's data; the rest is the caller's to receive.

        The reader then stands behind the data.
        """
        assert self._offered is not None
        taken = self._take(min(self._offered.data_bytes, len(self._held)))
        self._offered = None
        return taken

    def resume(self, rest_bytes: int) -> None:
        """Let the last `rest_bytes` of a claimed tensor's data pass after all."""
        assert not self._held
        self._rest = rest_bytes

    def next(self) -> Event | None:
        """Return the next event; None: feed more."""
        if self._offered is not None:
            # Nobody claimed it: its head goes first, its data behind it.
            offered, self._offered = self._offered, None
            self._rest = offered.data_bytes
            return Pass(offered.head)
        if not self._held:
            return None
        if self._foreign:
            return Pass(self._take(len(self._held)))
        if self._rest:
            size = min(self._rest, len(self._held))
            self._rest -= size
            return Pass(self._take(size))
        return self._message()

    def _message(self) -> Event | None:
        """Return what is at the front: all whole, ordinary messages together, or another event."""
        held, at = self._held, 0
        while len(held) - at >= REQUEST_HEAD.size:
            command, size = REQUEST_HEAD.unpack_from(held, at)
            if not self._greeted:
                return self._hello(command, size)
            if size > SIZE_MAX_BYTES:
                self.give_up(f"a request that claims {size} bytes")
                return Foreign(self._foreign)
            whole = REQUEST_HEAD.size + size
            special = self._special(command, size, at)
            if special is _MORE or isinstance(special, TensorStart | HashOffer):
                return Pass(self._take(at)) if at else self._begin(special)
            if whole > WHOLE_MAX_BYTES:
                if at == 0:
                    self._rest = whole
                    return self.next()
                break
            if len(held) - at < whole:
                break
            at += whole
        return Pass(self._take(at)) if at else None

    def _special(self, command: int, size: int, at: int) -> Event | None:
        """Return the event of a weight's message at `at`; None: it is ordinary; `_MORE`: feed more."""
        if not self.recognising:
            return None
        head_bytes = {SET_TENSOR: SET_TENSOR_BYTES, SET_TENSOR_HASH: HASH_OFFER_BYTES}.get(command)
        if head_bytes is None or size < head_bytes:
            return None
        begin = at + REQUEST_HEAD.size
        if len(self._held) - begin < head_bytes:
            return _MORE
        body = bytes(self._held[begin : begin + head_bytes])
        key = tensor_key(body)
        if key.name not in self._weights:
            return None
        head = bytes(self._held[at:begin]) + body
        if command == SET_TENSOR_HASH:
            if size != HASH_OFFER_BYTES:
                return None
            return HashOffer(head, key, _OFFSET.unpack_from(body, TENSOR_BYTES)[0])
        offset = _OFFSET.unpack_from(body, CACHE_FLAG_AT + 1)[0]
        return TensorStart(head, key, offset, size - SET_TENSOR_BYTES)

    def _begin(self, event: Event | None) -> Event | None:
        """Hand out a special event that stands at the front."""
        match event:
            case HashOffer(content):
                self._take(len(content))
            case TensorStart(head):
                self._take(len(head))
                self._offered = event
            case _:
                return None  # more has to come
        return event

    def _hello(self, command: int, size: int) -> Event | None:
        if command != HELLO or size > HELLO_MAX_BYTES:
            self.give_up("the client does not greet")
            return Foreign(self._foreign)
        whole = REQUEST_HEAD.size + size
        if len(self._held) < whole:
            return None
        self._greeted = True
        content = self._take(whole)
        if size == CAPABILITY_BYTES:
            content = content[: REQUEST_HEAD.size] + bytes(size)
        return Hello(content)

    def _take(self, size: int) -> bytes:
        return _taken(self._held, size)


_MORE: Final = Foreign("more")


class ResponseReader:
    """Passes on what the server answers: whole where that is small; of HELLO's answer the version is read."""

    def __init__(self) -> None:
        self.version: tuple[int, int, int] | None = None
        """As HELLO's answer said; None before, and where it is none."""
        self.foreign = ""
        """Why the answers are just passed on; empty: they are understood."""
        self._held = bytearray()
        self._rest = 0

    @property
    def is_known(self) -> bool:
        """True when the server speaks a version that is understood here."""
        return self.version is not None and self.version[0] in KNOWN_MAJORS

    def feed(self, content: bytes | memoryview) -> bytes:
        """Return what is to be passed on now."""
        self._held += content
        out = bytearray()
        while self._held:
            if self.foreign:
                out += self._take(len(self._held))
            elif self._rest:
                size = min(self._rest, len(self._held))
                self._rest -= size
                out += self._take(size)
            elif not self._answer(out):
                break
        return bytes(out)

    def _answer(self, out: bytearray) -> bool:
        """Move the answer at the front to `out`; return False when more has to come."""
        if len(self._held) < RESPONSE_HEAD.size:
            return False
        (size,) = RESPONSE_HEAD.unpack_from(self._held)
        whole = RESPONSE_HEAD.size + size
        if self.version is None:
            return self._hello(size, whole, out)
        if size > SIZE_MAX_BYTES:
            self.foreign = f"an answer that claims {size} bytes"
        elif whole > WHOLE_MAX_BYTES:
            self._rest = whole
        elif len(self._held) < whole:
            return False
        else:
            out += self._take(whole)
        return True

    def _hello(self, size: int, whole: int, out: bytearray) -> bool:
        if not _VERSION_BYTES <= size <= HELLO_MAX_BYTES:
            self.foreign = f"a greeting of {size} bytes"
            return True
        if len(self._held) < whole:
            return False
        answer = bytearray(self._take(whole))
        body = answer[RESPONSE_HEAD.size :]
        self.version = (body[0], body[1], body[2])
        if size == _VERSION_BYTES + CAPABILITY_BYTES:
            answer[-CAPABILITY_BYTES:] = bytes(CAPABILITY_BYTES)
        if not self.is_known:
            self.foreign = "protocol version " + ".".join(map(str, self.version))
        out += answer
        return True

    def _take(self, size: int) -> bytes:
        return _taken(self._held, size)


def _taken(held: bytearray, size: int) -> bytes:
    """Return the first `size` bytes, removed."""
    with memoryview(held) as view:
        taken = bytes(view[:size])
    del held[:size]
    return taken
