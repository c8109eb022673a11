"""The way to engines of other nodes: one stream of the peer link for each request.

Decides what each way of failing means to the walk over the candidates: "not served there" and its kin
let the next one try, a broken link is also told to whoever watches over peers (`on_link_failed`), an
engine that fails behind a living link is not. Bytes pass untouched, with credit from end to end.
"""

import asyncio
from collections.abc import Callable

from nodes.mesh.ids import NodeId
from nodes.mesh.routing import Upstream
from nodes.runtime.dial_errors import DialError
from nodes.runtime.peer_streams import PeerStreams
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from proxy import tunnel
from proxy.config import ApiConfig
from proxy.tunnel import TunnelError
from proxy.tunnel_heads import read_head
from proxy.upstream import Header, OutboundRequest, UpstreamError, UpstreamTrouble

BODY_SLICE_BYTES = 64 * 1024
LATE_S = 1.0
"""Beyond its deadline a serving node gets so long to say itself that its engine was too slow."""
TOLD_AGAIN_S = 0.5
"""A node whose link failed is reported at most this often, however many requests were on it."""


class PeerUpstreams:
    """An `UpstreamClient` for engines behind peer links."""

    def __init__(
        self,
        config: ApiConfig,
        streams: PeerStreams,
        on_link_failed: Callable[[NodeId], None] = lambda node_id: None,
    ) -> None:
        """`on_link_failed` hears of a node that could not be reached, or whose link broke under a request."""
        self._config = config
        self._streams = streams
        self._on_link_failed = on_link_failed
        self._told: set[NodeId] = set()
        self._answers: set[PeerAnswer] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def open(self, upstream: Upstream, request: OutboundRequest) -> "PeerAnswer":
        """Return the answer once its head is there. Raises UpstreamError."""
        loop = asyncio.get_running_loop()
        limit_s = self._config.first_byte_deadline_s
        if request.first_byte_s is not None:
            limit_s = min(limit_s, request.first_byte_s)
        deadline = loop.time() + limit_s
        stream = await self._stream(upstream.node_id, limit_s)
        answer = PeerAnswer(stream, self._config.upstream_idle_deadline_s, self._done)
        try:
            async with asyncio.timeout_at(deadline + LATE_S):
                await answer.begin(_head(upstream, request, deadline - loop.time()), request.body)
        except TimeoutError:
            answer.close()
            raise UpstreamError(UpstreamTrouble.SLOW) from None
        except UpstreamError as error:
            answer.close()
            self._note(upstream.node_id, error)
            raise
        except BaseException:  # cancelled: the slot over there must be freed at once
            answer.close()
            raise
        answer.on_trouble = lambda error: self._note(upstream.node_id, error)
        self._answers.add(answer)
        self._arm_sweep()
        return answer

    def close(self) -> None:
        """End every answer under way."""
        for answer in tuple(self._answers):
            answer.fail(UpstreamError(UpstreamTrouble.LINK_LOST))
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    async def _stream(self, node_id: NodeId, limit_s: float) -> Stream:
        try:
            return await self._streams.open(node_id, tunnel.REQUEST_KIND, limit_s)
        except DialError as error:
            fault = UpstreamError(UpstreamTrouble.LINK_LOST, tunnel.shown(str(error)))
        except StreamAbortedError as error:
            full = error.code == AbortCode.REFUSED
            trouble = UpstreamTrouble.BUSY if full else UpstreamTrouble.LINK_LOST
            fault = UpstreamError(trouble, tunnel.shown(error.reason))
        self._note(node_id, fault)
        raise fault

    def _note(self, node_id: NodeId, error: UpstreamError) -> None:
        if error.trouble is not UpstreamTrouble.LINK_LOST or node_id in self._told:
            return
        self._told.add(node_id)
        asyncio.get_running_loop().call_later(TOLD_AGAIN_S, self._told.discard, node_id)
        self._on_link_failed(node_id)

    def _done(self, answer: "PeerAnswer") -> None:
        self._answers.discard(answer)

    def _arm_sweep(self) -> None:
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._config.sweep_interval_s, self._on_sweep)

    def _on_sweep(self) -> None:
        self._sweep = None
        now = asyncio.get_running_loop().time()
        for answer in tuple(self._answers):
            if answer.is_late(now):
                answer.fail(UpstreamError(UpstreamTrouble.SLOW))
        if self._answers:
            self._arm_sweep()


class PeerAnswer:
    """An `Answer` that comes through a peer link."""

    def __init__(
        self, stream: Stream, idle_s: float, on_done: Callable[["PeerAnswer"], None]
    ) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.on_trouble: Callable[[UpstreamError], None] = lambda error: None
        """Hears of a failure after the head."""
        self._stream = stream
        self._idle_s = idle_s
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._finished = False
        self._error: UpstreamError | None = None
        self._upload: asyncio.Task[None] | None = None
        self._last_piece_s = self._loop.time()

    async def begin(self, head: bytes, body: bytes) -> None:
        """Send the request and return once the answer's head is here. Raises UpstreamError."""
        if self._stream.write_now(head + body[:BODY_SLICE_BYTES]) and len(body) <= BODY_SLICE_BYTES:
            self._stream.end()
        else:
            # The answer may come before the whole request was taken, such as a refusal.
            self._upload = asyncio.create_task(self._send_rest(body))
        try:
            content, self._rest = await read_head(self._stream)
            answer = tunnel.decode_answer(content)
        except StreamAbortedError as error:
            raise _trouble(error) from error
        except TunnelError as error:
            raise UpstreamError(UpstreamTrouble.BROKEN, str(error)) from error
        if answer.refusal:
            trouble = tunnel.TROUBLE_OF[tunnel.refusal_word(answer.refusal)]
            text = tunnel.shown(answer.text)
            raise UpstreamError(trouble, text, answer.progress, tunnel.shown(answer.phase))
        self.status = answer.status
        self.headers = list(answer.headers)
        self._last_piece_s = self._loop.time()

    async def read(self) -> bytes:
        """Return the next bytes of the body, empty at its clean end. Raises UpstreamError."""
        if self._error is not None:
            raise self._error
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        try:
            piece = await self._stream.read()
        except StreamAbortedError as error:
            raise self._failed(error) from error
        self._last_piece_s = self._loop.time()
        if not piece:
            self._finished = True
        return piece

    async def pump(self, sink: Callable[[bytes], bool]) -> None:
        """Hand every piece to `sink` as it comes; see `Answer`."""
        rest, self._rest = self._rest, b""
        if rest and not sink(rest):
            return

        def noted(piece: bytes) -> bool:
            self._last_piece_s = self._loop.time()
            return sink(piece)

        await self._stream.pump(noted)

    def is_late(self, now: float) -> bool:
        """Return whether the peer has been silent for too long while its bytes were wanted."""
        waiting = self._stream.unread_bytes or self._rest
        return not waiting and now - self._last_piece_s > self._idle_s + LATE_S

    def close(self) -> None:
        """Let go; of an unfinished answer the other side is told at once, so that the slot is freed."""
        self._on_done(self)
        if self._upload is not None:
            self._upload.cancel()
        self._stream.abort(AbortCode.CANCELLED, "not wanted any more")

    def fail(self, error: Exception) -> None:
        """Make a waiting or coming `read` raise `error`, and let go of the stream."""
        if not self._finished and self._error is None:
            assert isinstance(error, UpstreamError)
            self._error = error
        self.close()

    def _failed(self, error: StreamAbortedError) -> UpstreamError:
        if self._error is None:
            self._error = _trouble(error)
            self.on_trouble(self._error)
        return self._error

    async def _send_rest(self, body: bytes) -> None:
        """Send what is left of the body, as fast as it is taken; a broken stream is told to the reader."""
        try:
            await self._stream.drained()
            view = memoryview(body)
            for start in range(BODY_SLICE_BYTES, len(body), BODY_SLICE_BYTES):
                await self._stream.write(bytes(view[start : start + BODY_SLICE_BYTES]))
        except StreamAbortedError:
            return
        self._stream.end()


def _head(upstream: Upstream, request: OutboundRequest, left_s: float) -> bytes:
    head = tunnel.RequestHead(
        model=upstream.model,
        method=request.method,
        target=request.target,
        headers=tuple(request.headers),
        body_bytes=len(request.body),
        left_s=max(left_s, 0.001),
    )
    try:
        return tunnel.encode(head)
    except TunnelError:
        raise UpstreamError(UpstreamTrouble.TOO_LARGE) from None


def _trouble(error: StreamAbortedError) -> UpstreamError:
    return UpstreamError(tunnel.trouble_of_abort(error.code), tunnel.shown(error.reason))
