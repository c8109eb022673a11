"""What a node's engines are doing, in the few bytes that ride on its probes.

Decides what of `ServerLoadSampled` travels, how it is packed into `limits.LOAD_BYTES_MAX` bytes, and when
it is said again. The figures belong to one sender and one moment and are no part of the announcement: they
bump no version. Models are named by a checksum, since twelve names would not fit.

Age: a sender says its figures again at least every `REFRESH_S`, each time under a new number. A reader
notes by its own clock when a number was new to it, and believes it for `STALE_S`.

Source: issue 4 (live load), docs/gossip.md (what rides on a ping).
"""

import zlib
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from nodes.mesh.events import ServerLoadSampled
from nodes.mesh.ids import ModelName
from nodes.mesh.limits import LOAD_BYTES_MAX

FIGURES_MAX = 12
"""Models told of, the busiest first: 12 lines of 20 bytes and 6 more stay below `LOAD_BYTES_MAX`."""
REFRESH_S = 5.0
"""Unchanged figures are said again after so long, so that a reader can tell idle from out of date."""
STALE_S = 3 * REFRESH_S
"""Figures whose number is older than this, by the reader's clock, count no more."""
_SMALL_MAX = 2**16 - 1
"""Every counter is cut off here: three bytes of MessagePack."""
FREE_SLOTS_TOLD_MAX = 2**8 - 1
"""More free slots than this are told as this many."""

_Small = Annotated[int, Meta(ge=0, le=_SMALL_MAX)]


class _Line(msgspec.Struct, array_like=True, frozen=True):
    """One model. Fields are only ever appended, with defaults."""

    key: Annotated[int, Meta(ge=0, lt=2**32)]
    in_flight: _Small = 0
    free_slots: _Small = 0
    ttfb_p50_ms: _Small | None = None
    tokens_per_10_s: _Small = 0
    requests_per_minute: _Small = 0


class _Message(msgspec.Struct, array_like=True, frozen=True):
    number: _Small
    lines: Annotated[tuple[_Line, ...], Meta(max_length=4 * FIGURES_MAX)] = ()


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Message)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What one engine was doing when its node looked last."""

    number: int
    """Which of the sender's reports this is, 0 to 65,535 and round again; equal numbers: the same report."""
    in_flight: int
    """Requests with the engine, whoever sent them."""
    free_slots: int
    ttfb_p50_ms: float | None
    """At the host, without the way to it. None: it has not answered yet."""
    tokens_per_s: float
    requests_per_minute: float


class NodeLoad:
    """The figures of one node, by model."""

    __slots__ = ("_by_key",)

    def __init__(self, by_key: dict[int, EngineLoad]) -> None:
        self._by_key = by_key

    def of(self, model: ModelName) -> EngineLoad | None:
        """Return the model's figures; None: the node did not tell."""
        return self._by_key.get(model_key(model))

    def __len__(self) -> int:
        return len(self._by_key)


NO_LOAD = NodeLoad({})


def model_key(model: ModelName) -> int:
    """Return the checksum by which figures name a model: two of one node's few do not share one by chance."""
    return zlib.crc32(model.encode("utf-8", "surrogatepass"))


def decode(load: bytes) -> NodeLoad:
    """Return what a node told; nothing where it is silent, broken or of an unknown form."""
    if not load:
        return NO_LOAD
    try:
        message = _DECODER.decode(load)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NO_LOAD
    return NodeLoad(
        {
            line.key: EngineLoad(
                number=message.number,
                in_flight=line.in_flight,
                free_slots=line.free_slots,
                ttfb_p50_ms=line.ttfb_p50_ms,
                tokens_per_s=line.tokens_per_10_s / 10,
                requests_per_minute=float(line.requests_per_minute),
            )
            for line in message.lines
        }
    )


class LoadReport:
    """This node's side: takes samples, gives the bytes for gossip's `LoadChanged` when they are due."""

    __slots__ = ("_due_s", "_lines", "_number", "_said")

    def __init__(self) -> None:
        self._lines: dict[ModelName, _Line] = {}
        self._said: tuple[_Line, ...] = ()
        self._number = 0
        self._due_s = 0.0

    def sampled(self, sample: ServerLoadSampled, slots: int) -> None:
        """Take a fresh sample of a model that this node serves with so many slots."""
        ttfb = sample.ttfb_p50_ms
        self._lines[sample.model] = _Line(
            key=model_key(sample.model),
            in_flight=_small(sample.in_flight),
            free_slots=min(FREE_SLOTS_TOLD_MAX, max(0, slots - sample.in_flight)),
            ttfb_p50_ms=None if ttfb is None else _small(ttfb),
            tokens_per_10_s=_small(sample.tokens_per_s * 10),
            requests_per_minute=_small(sample.requests_per_s * 60),
        )

    def ended(self, model: ModelName) -> None:
        """Say nothing more of a model: it is no longer served here."""
        self._lines.pop(model, None)

    def due(self, now: float) -> bytes | None:
        """Return the figures if they changed or were said `REFRESH_S` ago; None: nothing is to be said."""
        busiest = sorted(self._lines.values(), key=lambda line: line.in_flight, reverse=True)
        lines = tuple(busiest[:FIGURES_MAX])
        if lines == self._said and (now < self._due_s or not lines):
            return None
        self._number = (self._number + 1) % (_SMALL_MAX + 1)
        self._said, self._due_s = lines, now + REFRESH_S
        encoded = _ENCODER.encode(_Message(self._number, lines))
        assert len(encoded) <= LOAD_BYTES_MAX, "FIGURES_MAX lines fit"
        return encoded


def _small(value: float) -> int:
    return min(_SMALL_MAX, max(0, round(value)))
