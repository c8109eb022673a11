"""A host's and a worker's end in one process, with a scripted rpc-server that keeps what it gets."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from models_registry.rpc import protocol
from models_registry.rpc.counters import LoadCounters
from models_registry.rpc.digests import Digests
from models_registry.rpc.grants import Grant
from models_registry.rpc.host_ports import HostPort, Worker
from models_registry.rpc.local_client import LocalClient
from models_registry.rpc.preparing import Preparing
from models_registry.rpc.weights import open_all
from models_registry.rpc.worker_door import WorkerDoor
from tests.models_registry.rpc.wire import answer, hello_answer
from tests.nodes.lane.lab import LabLane, lanes

TERM = 3
ANSWERED = {0, 1, 2, 3, 7, 8, 9, 11, 13, 15}
"""Commands that the server answers."""


@dataclass
class FakeRpcServer:
    """Serves one client at a time, as the real one does; keeps every client's bytes."""

    major: int = 8
    capabilities: bytes = bytes(24)
    hash_known: bool = False
    """Whether it has the data of every hash that it is offered."""
    clients: list[bytearray] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    port: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared: it does not read."""
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def start(self) -> None:
        self.gate.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = bytearray()
        self.clients.append(seen)
        self._writers.append(writer)
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await self.gate.wait()
                head = await reader.readexactly(protocol.REQUEST_HEAD.size)
                command, size = protocol.REQUEST_HEAD.unpack(head)
                payload = await reader.readexactly(size)
                seen += head + payload
                writer.write(self._answer(command, payload))
                await writer.drain()
        self.open_now -= 1
        writer.close()

    def _answer(self, command: int, payload: bytes) -> bytes:
        if command == protocol.HELLO:
            return hello_answer(self.major, self.capabilities)
        if command == protocol.SET_TENSOR_HASH:
            return answer(b"\1" if self.hash_known else b"\0")
        return answer(b"re:" + payload[:40]) if command in ANSWERED else b""

    def cut(self) -> None:
        """End all clients, as a crash would."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()


@dataclass
class Duo:
    """Both ends, and the port that llama-server would be given."""

    server: FakeRpcServer
    host: LabLane
    worker: LabLane
    door: WorkerDoor
    port: HostPort
    number: int
    counters: LoadCounters
    worker_counters: LoadCounters

    async def client(self) -> "Client":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
        return Client(reader, writer)


@dataclass
class Client:
    """Plays llama-server: one request after another."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes, *, answered: bool | None = None) -> bytes:
        """Send a request; return the answer's payload, where its command has one."""
        self.writer.write(request)
        await self.writer.drain()
        if not (request[0] in {*ANSWERED, protocol.HELLO} if answered is None else answered):
            return b""
        async with asyncio.timeout(10):
            size = protocol.RESPONSE_HEAD.unpack(await self.reader.readexactly(8))[0]
            return await self.reader.readexactly(size)

    async def finish(self) -> None:
        """Close as llama-server does, and wait until the other side has closed, too."""
        self.writer.write_eof()
        async with asyncio.timeout(10):
            assert await self.reader.read() == b""
        self.writer.close()

    async def is_cut(self) -> bool:
        """Return whether the other side ends the connection."""
        try:
            async with asyncio.timeout(10):
                while await self.reader.read(65536):
                    pass
        except ConnectionError:
            pass
        return True


@contextlib.asynccontextmanager
async def duo(
    host_files: list[Path],
    worker_files: list[Path],
    server: FakeRpcServer | None = None,
    *,
    name_client: bool = True,
) -> AsyncIterator[Duo]:
    """Yield both ends, ready for this very process as the client."""
    threads = ThreadPoolExecutor(8)
    server = server or FakeRpcServer()
    await server.start()
    digests = [Digests(None), Digests(None)]
    preparing = Preparing(digests[1])
    door = WorkerDoor(digests[1], preparing, threads)
    async with lanes() as lab:
        host, worker = await lab.lane(), await lab.lane(handlers={"rpc": door.serve})
        host.knows(worker)
        assert await door.grant(Grant(server.port, host.id, TERM), worker_files) == []
        weights, faults = open_all(host_files)
        assert not faults
        counters = LoadCounters()
        target = Worker(worker.id, server.port, TERM)
        port = HostPort(target, weights, counters, digests[0], host.lane.open, threads)
        number = port.listen()
        if name_client:
            me = LocalClient.of(os.getpid())
            assert me is not None
            port.name_client(me)
        try:
            theirs = door.reports()[0].load
            yield Duo(server, host, worker, door, port, number, counters, theirs)
        finally:
            await port.close()
            await server.close()
            preparing.close()
    threads.shutdown(wait=False)
