"""The host's end of one rpc connection: llama-server on a local socket, a tunnel to the worker.

Decides what need not cross: a weight whose bytes are those of the host's own file, where the worker
says that it has that file. Of it a reference goes, in its place among the bytes. Everything else goes
as it is. Nothing of a weight is kept: what was compared can be read from the file again.
"""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Iterable
from concurrent.futures import Executor
from typing import TypeVar, assert_never

from models_registry.rpc import blocking, words
from models_registry.rpc.blocking import Other, Same
from models_registry.rpc.counters import LoadCounters
from models_registry.rpc.digests import Digests
from models_registry.rpc.protocol import (
    HASH_MISS,
    REQUEST_HEAD,
    SET_TENSOR_BYTES,
    Foreign,
    HashOffer,
    Hello,
    Pass,
    RequestReader,
    ResponseReader,
    TensorStart,
)
from models_registry.rpc.weights import Weight, WeightFiles, WeightsFault
from models_registry.rpc.words import Accepted, Fed, Filled, Reference, Wanted, WordFault
from nodes.runtime.lane.channel import LostCode, TunnelLostError
from nodes.runtime.lane.tunnel import Message, Tunnel
from nodes.runtime.tasks import TaskSet

T = TypeVar("T")
RECEIVE_BYTES = 256 << 10
CLOSE_S = 10.0
"""After llama-server has closed: how long the worker's end may take to close, too."""


class HostEnd:
    """One connection of llama-server, from its acceptance to its end."""

    def __init__(
        self,
        client: socket.socket,
        tunnel: Tunnel,
        weights: WeightFiles,
        digests: Digests,
        counters: LoadCounters,
        threads: Executor,
    ) -> None:
        self._client = client
        self._tunnel = tunnel
        self._weights = weights
        self._digests = digests
        self._counters = counters
        self._threads = threads
        self._reader = RequestReader(weights.names)
        self._answers = ResponseReader()
        self._theirs: frozenset[str] = frozenset()
        self._numbers = itertools.count(1)
        self._unanswered: dict[int, tuple[Weight, int]] = {}
        """References by number, and how many bytes had been written before each."""
        self._written_bytes = 0
        self._answered = asyncio.Event()
        self._fills = TaskSet()
        self.client_gone = False
        """True: llama-server closed the connection, or ended. False at the end: the worker is lost."""

    async def run(self) -> None:
        """Carry the connection to its end; both sides are closed then.

        Raises:
            TunnelLostError, OSError, WeightsFault, WordFault: it ended early.
        """
        try:
            accepted: Accepted = words.decode_accepted(self._tunnel.acceptance)
            self._theirs = frozenset(accepted.files)
            there, back = asyncio.create_task(self._requests()), asyncio.create_task(self._back())
            try:
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                if there.done() and there.exception() is None:
                    await asyncio.wait({back}, timeout=CLOSE_S)
            finally:
                await _end({there, back})
            _raise_first((there, back))
        finally:
            await self._fills.cancel()
            blocking.cut(self._client)
            self._tunnel.abort(LostCode.CANCELLED, "the host's end closed")

    # --- towards the worker -----------------------------------------------------------------------

    async def _requests(self) -> None:
        loop = asyncio.get_running_loop()
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        while count := await self._of_client(loop.sock_recv_into(self._client, buffer)):
            self._reader.feed(buffer[:count])
            while (event := self._reader.next()) is not None:
                match event:
                    case Pass(content) | Hello(content):
                        await self._write(content)
                    case HashOffer():
                        await self._offer(event)
                    case TensorStart():
                        await self._tensor(event)
                    case Foreign(reason):
                        self._counters.recognition = reason
                    case _:
                        assert_never(event)
        self.client_gone = True
        self._tunnel.end()

    async def _of_client(self, work: Awaitable[T]) -> T:
        """Return what became of something with llama-server's socket; its fault is llama-server's end."""
        try:
            return await work
        except OSError:
            self.client_gone = True
            raise

    async def _offer(self, offer: HashOffer) -> None:
        """Answer that the data is wanted where it will be recognised; else let the server answer."""
        held = [w for w in self._candidates(offer) if w.size_bytes >= words.REFERENCE_MIN_BYTES]
        if held:
            await self._of_client(asyncio.get_running_loop().sock_sendall(self._client, HASH_MISS))
        else:
            await self._write(offer.content)

    def _candidates(self, event: HashOffer | TensorStart) -> list[Weight]:
        """Return the weights of the host's files that it may be, and that the worker may have."""
        if event.offset != 0:
            return []
        if isinstance(event, TensorStart):
            return self._weights.find(event.key, event.data_bytes, self._theirs)
        return self._weights.find(event.key, None, self._theirs)

    async def _tensor(self, start: TensorStart) -> None:
        candidates = self._candidates(start)
        if not candidates or start.data_bytes < words.REFERENCE_MIN_BYTES:
            self._counters.weights_sent_bytes += start.data_bytes
            return  # Unclaimed it goes as it is.
        found = await self._of_client(
            asyncio.get_running_loop().run_in_executor(
                self._threads, blocking.compare,
                self._client, self._reader.claim(), start.data_bytes, candidates, self._digests,
            )
        )  # fmt: skip
        match found:
            case Same(weight, sha256):
                await self._refer(start, weight, sha256)
            case Other(like, matched_bytes, received):
                self._counters.weights_sent_bytes += start.data_bytes
                await self._write(start.head)
                if like is not None:
                    async for part in self._parts(like, matched_bytes):
                        await self._write(part)
                await self._write(received)
                self._reader.resume(start.data_bytes - matched_bytes - len(received))
            case _:
                assert_never(found)

    async def _refer(self, start: TensorStart, weight: Weight, sha256: bytes) -> None:
        await self._keep_near()
        number = next(self._numbers)
        self._unanswered[number] = (weight, self._written_bytes)
        head = start.head[REQUEST_HEAD.size :]
        assert len(head) == SET_TENSOR_BYTES
        reference = Reference(number, head, start.data_bytes, sha256)
        self._counters.references += 1
        self._counters.weights_saved_bytes += start.data_bytes
        await self._tunnel.tell(words.encode(reference))

    async def _write(self, content: bytes) -> None:
        await self._keep_near()
        self._written_bytes += len(content)
        self._counters.sent_bytes += len(content)
        await self._tunnel.write(content)

    async def _keep_near(self) -> None:
        """Wait while the worker is too far behind: it holds what follows a reference it has not answered."""
        while self._unanswered:
            _, written_before = next(iter(self._unanswered.values()))
            ahead_bytes = self._written_bytes - written_before
            if (
                len(self._unanswered) < words.REFERENCES_AHEAD_MAX
                and ahead_bytes < words.BYTES_AHEAD_MAX
            ):
                return
            self._answered.clear()
            await self._answered.wait()

    # --- back to llama-server ---------------------------------------------------------------------

    async def _back(self) -> None:
        loop = asyncio.get_running_loop()
        while (part := await self._tunnel.read()) is not None:
            if isinstance(part, Message):
                self._hear(part.body)
                continue
            self._counters.received_bytes += len(part)
            content = self._answers.feed(part)
            self._judge_version()
            if content:
                await self._of_client(loop.sock_sendall(self._client, content))

    def _judge_version(self) -> None:
        """Switch the recognising on once the server has named a version that is known, else show why not."""
        if self._answers.version is not None:
            self._counters.rpc_version = ".".join(map(str, self._answers.version))
        if self._answers.foreign:
            self._counters.recognition = self._answers.foreign
            self._reader.recognising = False
            self._reader.give_up(self._answers.foreign)
        elif self._answers.is_known and not self._reader.foreign:
            self._reader.recognising = True

    def _hear(self, body: bytes) -> None:
        match words.decode(body):
            case Fed(number) if number in self._unanswered:
                del self._unanswered[number]
                self._answered.set()
            case Wanted(number) if number in self._unanswered:
                weight, _ = self._unanswered[number]
                self._fills.spawn(self._fill(number, weight))
            case _:
                raise WordFault("an answer to no reference")

    async def _fill(self, number: int, weight: Weight) -> None:
        """Send the bytes of a reference that the worker cannot serve. Its fault ends the tunnel."""
        counters, size = self._counters, weight.size_bytes
        counters.references_wanted += 1
        counters.weights_saved_bytes -= size
        counters.weights_sent_bytes += size
        counters.sent_bytes += size
        try:
            await self._tunnel.tell(words.encode(Filled(number)), self._parts(weight, size))
        except (WeightsFault, TunnelLostError) as fault:
            self._tunnel.abort(LostCode.INTERNAL, str(fault))
            return
        self._unanswered.pop(number, None)
        self._answered.set()

    async def _parts(self, weight: Weight, first_bytes: int) -> AsyncIterator[bytes]:
        """Yield the beginning of a weight's data from the host's file. Raises: WeightsFault."""
        parts = blocking.parts_of(weight, first_bytes)
        loop = asyncio.get_running_loop()
        while part := await loop.run_in_executor(self._threads, next, parts, b""):
            yield part


def _raise_first(tasks: Iterable["asyncio.Task[None]"]) -> None:
    for task in tasks:
        if not task.cancelled() and (fault := task.exception()) is not None:
            raise fault


async def _end(tasks: set["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
