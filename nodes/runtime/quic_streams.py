"""aioquic's stream table made cheap and bounded: windows that slide, and no loop over streams at rest.

aioquic 1.7.2 looks at every stream for every packet, twice. Here its own loops see only streams that
have something to send, to announce or to forget; who these are is noted where it happens. It also
doubles a stream's window as bytes arrive, in order or not, without end; here the window slides with
what was delivered in order. Knows nothing of frames or peers. Source: RFC 9000 sections 4.1 and 4.6.
"""

from collections.abc import Callable
from typing import Any, cast

from aioquic.quic.connection import MAX_STREAM_DATA_FRAME_CAPACITY, Limit, QuicConnection
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream


class StreamTable(dict[int, QuicStream]):
    """aioquic's streams by id. Set as `quic._streams` before its first packet."""

    def __init__(self, quic: QuicConnection, streams_max: int, window_bytes: int) -> None:
        super().__init__()
        self._quic: Any = quic
        self._window_bytes = window_bytes
        self._to_announce: dict[QuicStream, None] = {}
        """Streams whose window is to be announced."""
        self._queued: set[QuicStream] = set()
        """Those in aioquic's queue, which serves them in turn."""
        self._write_all: Callable[..., None] = quic._write_application
        self._quic._streams = self
        setattr(quic, "_write_application", self._write_application)  # noqa: B010 - methods, which mypy
        setattr(quic, "_write_stream_limits", self._write_stream_limits)  # noqa: B010 - lets nobody assign
        self._quic._local_max_streams_bidi = Limit(
            frame_type=QuicFrameType.MAX_STREAMS_BIDI, name="max_streams_bidi", value=streams_max
        )
        # No unidirectional streams here: a peer may open none.
        self._quic._local_max_streams_uni = Limit(
            frame_type=QuicFrameType.MAX_STREAMS_UNI, name="max_streams_uni", value=0
        )

    # --- for the connection -----------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether a stream has something to send or to forget, or waits until it may."""
        return bool(self._quic._streams_queue or self._to_announce)

    def mark(self, stream_id: int) -> None:
        """A stream was written to, reset, stopped or finished."""
        stream = self.get(stream_id)
        if stream is not None and _has_work(stream):
            self._mark(stream)

    def received(self, stream_id: int, *, finished: bool) -> None:
        """Bytes of a stream were delivered; `finished`: the last ones."""
        stream = self.get(stream_id)
        if stream is None:
            return
        if finished and _has_work(stream):
            self._mark(stream)
        wanted = stream.receiver.starting_offset() + self._window_bytes
        if wanted - stream.max_stream_data_local >= self._window_bytes // 2:
            stream.max_stream_data_local = wanted
            self._to_announce[stream] = None

    # --- dict, as aioquic uses it -----------------------------------------------------------------

    def __setitem__(self, stream_id: int, stream: QuicStream) -> None:
        # aioquic puts a new stream into its queue right after this.
        self._queued.add(stream)
        for part, name in _callbacks(stream):
            setattr(part, name, self._noticing(stream, getattr(part, name)))
        super().__setitem__(stream_id, stream)

    def pop(self, stream_id: int, *default: Any) -> Any:
        """Forget a stream, and let go of what refers back to it."""
        stream = super().pop(stream_id, *default)
        if isinstance(stream, QuicStream):
            self._to_announce.pop(stream, None)
            for part, name in _callbacks(stream):
                vars(part).pop(name, None)
        return stream

    def values(self) -> Any:
        """Return those whose window is to be announced: what aioquic goes through for that."""
        return tuple(self._to_announce)

    # --- inner ------------------------------------------------------------------------------------

    def _mark(self, stream: QuicStream) -> None:
        if stream not in self._queued and stream.stream_id in self:
            self._queued.add(stream)
            self._quic._streams_queue.append(stream)

    def _noticing(self, stream: QuicStream, told: Callable[..., None]) -> Callable[..., None]:
        """Return a delivery callback that marks a stream with something lost, or nothing left."""

        def deliver(delivery: QuicDeliveryState, *rest: Any) -> None:
            told(delivery, *rest)
            if delivery is not QuicDeliveryState.ACKED or stream.is_finished:
                self._mark(stream)

        return deliver

    def _write_application(self, *arguments: Any) -> None:
        try:
            self._write_all(*arguments)
        finally:
            queue = [stream for stream in self._quic._streams_queue if _has_work(stream)]
            self._quic._streams_queue = queue
            self._queued = set(queue)

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._announced,
            handler_args=(stream,),
        )
        buf.push_uint_var(cast(int, stream.stream_id))
        buf.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local
        del self._to_announce[stream]

    def _announced(self, delivery: QuicDeliveryState, stream: QuicStream) -> None:
        if delivery is not QuicDeliveryState.ACKED and stream.stream_id in self:
            self._to_announce[stream] = None


def _callbacks(stream: QuicStream) -> tuple[tuple[Any, str], ...]:
    """Return whom aioquic tells of what became of a stream's frames."""
    return (
        (stream.sender, "on_data_delivery"),
        (stream.sender, "on_reset_delivery"),
        (stream.receiver, "on_stop_sending_delivery"),
    )


def _has_work(stream: QuicStream) -> bool:
    sender = stream.sender
    unsent = not sender.buffer_is_empty or sender.reset_pending
    return unsent or stream.receiver.stop_pending or stream.is_finished
