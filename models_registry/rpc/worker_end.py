"""The worker's end of one rpc connection: a tunnel from the host, the rpc-server on a local socket.

Decides whether a reference is served from the worker's own file: the tensor's name, type, shape and
size are there, and the SHA-256 of its bytes is the reference's. Else it asks for the bytes. What the
host writes behind a reference waits until that is done, so the rpc-server gets all in order.
"""

import asyncio
import contextlib
import socket
from collections import deque
from concurrent.futures import Executor

from models_registry.rpc import blocking, words
from models_registry.rpc.counters import LoadCounters
from models_registry.rpc.digests import Digests
from models_registry.rpc.protocol import ResponseReader, set_tensor_head, tensor_key
from models_registry.rpc.weights import WeightFiles
from models_registry.rpc.words import Fed, Filled, Reference, Wanted, WordFault
from nodes.runtime.lane.channel import LostCode
from nodes.runtime.lane.settings import MESSAGE_COST_BYTES
from nodes.runtime.lane.tunnel import Message, Tunnel

RECEIVE_BYTES = 256 << 10
CLOSE_S = 5.0
"""After the host has ended: how long the rpc-server may take to close its side."""
_HELD_MAX_BYTES = (
    words.BYTES_AHEAD_MAX
    + words.AHEAD_SLACK_BYTES
    + words.REFERENCES_AHEAD_MAX * (1024 + MESSAGE_COST_BYTES)
)


class WorkerEnd:
    """One connection to an rpc-server, from its acceptance to its end."""

    def __init__(
        self,
        server: socket.socket,
        tunnel: Tunnel,
        weights: WeightFiles,
        digests: Digests,
        counters: LoadCounters,
        threads: Executor,
    ) -> None:
        self._server = server
        self._tunnel = tunnel
        self._weights = weights
        self._digests = digests
        self._counters = counters
        self._threads = threads
        self._files = frozenset(weights.keys)
        self._held: deque[bytes | Message] = deque()
        """What came while the bytes of a reference were waited for."""

    async def run(self) -> None:
        """Carry the connection to its end; both sides are closed then.

        Raises:
            TunnelLostError, OSError, WeightsFault, WordFault: it ended early.
        """
        there, back = asyncio.create_task(self._requests()), asyncio.create_task(self._answers())
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            if there.done() and there.exception() is None:
                # The rpc-server reads to the end, closes, and is free for the next.
                with contextlib.suppress(OSError):
                    self._server.shutdown(socket.SHUT_WR)
                await asyncio.wait({back}, timeout=CLOSE_S)
        finally:
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            blocking.cut(self._server)
            self._tunnel.abort(LostCode.CANCELLED, "the rpc-server's end closed")
        for task in (there, back):
            if not task.cancelled() and (fault := task.exception()) is not None:
                raise fault

    # --- towards the rpc-server -------------------------------------------------------------------

    async def _requests(self) -> None:
        loop = asyncio.get_running_loop()
        while (part := await self._next()) is not None:
            if isinstance(part, Message):
                await self._reference(part.body)
            else:
                self._counters.sent_bytes += len(part)
                await loop.sock_sendall(self._server, part)

    async def _next(self) -> bytes | Message | None:
        return self._held.popleft() if self._held else await self._tunnel.read()

    async def _reference(self, body: bytes) -> None:
        reference = words.decode(body)
        if not isinstance(reference, Reference):
            raise WordFault("a word out of place")
        self._counters.references += 1
        candidates = self._weights.find(
            tensor_key(reference.head), reference.size_bytes, self._files
        )
        head = set_tensor_head(reference.head, reference.size_bytes)
        loop = asyncio.get_running_loop()
        weight = await loop.run_in_executor(
            self._threads, blocking.find_same, candidates, reference.sha256, self._digests
        )
        if weight is None:
            await self._ask_for(reference, head)
            return
        await loop.run_in_executor(self._threads, blocking.feed, self._server, head, weight)
        self._counters.weights_saved_bytes += reference.size_bytes
        await self._tunnel.tell(words.encode(Fed(reference.number)))

    async def _ask_for(self, reference: Reference, head: bytes) -> None:
        """Have the host send a reference's bytes, and write them in its place."""
        self._counters.references_wanted += 1
        self._counters.weights_sent_bytes += reference.size_bytes
        await self._tunnel.tell(words.encode(Wanted(reference.number)))
        await self._hold_until_filled(reference.number)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._server, head)
        rest = reference.size_bytes
        while rest:
            part = await self._tunnel.read()
            if not isinstance(part, bytes) or len(part) > rest:
                raise WordFault("wanted bytes that are not those")
            rest -= len(part)
            await loop.sock_sendall(self._server, part)

    async def _hold_until_filled(self, number: int) -> None:
        held_bytes = sum(map(_cost, self._held))
        while True:
            part = await self._tunnel.read()
            if part is None:
                raise WordFault("an end instead of wanted bytes")
            if isinstance(part, Message):
                word = words.decode(part.body)
                if isinstance(word, Filled):
                    if word.number != number:
                        raise WordFault("bytes that nobody wanted")
                    return
            self._held.append(part)
            held_bytes += _cost(part)
            if held_bytes > _HELD_MAX_BYTES:
                raise WordFault("the host is too far ahead")

    # --- back to the host -------------------------------------------------------------------------

    async def _answers(self) -> None:
        loop = asyncio.get_running_loop()
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        reader = ResponseReader()
        while count := await loop.sock_recv_into(self._server, buffer):
            self._counters.received_bytes += count
            content = reader.feed(buffer[:count])
            if reader.version is not None:
                self._counters.rpc_version = ".".join(map(str, reader.version))
            self._counters.recognition = reader.foreign
            if content:
                await self._tunnel.write(content)
        self._tunnel.end()


def _cost(part: bytes | Message) -> int:
    content = part.body if isinstance(part, Message) else part
    return len(content) + MESSAGE_COST_BYTES
