"""The host's local ports, one for each worker: where its llama-server believes an rpc-server to be.

Decides who may use one: the process that the node names, and nobody else on this machine. A connection
that comes before the node has named it waits a little, for the node learns the pid when it has it.
"""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from models_registry.rpc import words
from models_registry.rpc.counters import LoadCounters
from models_registry.rpc.digests import Digests
from models_registry.rpc.host_end import HostEnd
from models_registry.rpc.local_client import LocalClient
from models_registry.rpc.weights import WeightFiles, WeightsFault
from models_registry.rpc.words import RPC_PURPOSE, OpenRpc, WordFault
from nodes.mesh.ids import NodeId
from nodes.runtime.lane.tunnel import Tunnel
from nodes.runtime.tasks import TaskSet

LOOPBACK = "127.0.0.1"
CONNECTIONS_MAX = 64
"""Of one port at a time; llama-server has a dozen, one after another. Further ones are closed."""
CLIENT_WAIT_S = 15.0
"""How long a connection waits for the node to name the process that may connect."""
BACKLOG = 32
_log = logging.getLogger(__name__)

OpenTunnel = Callable[[NodeId, str, bytes], Awaitable[Tunnel]]
"""The lane's `open`."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Where a host's port leads."""

    peer: NodeId
    rpc_port: int
    """On that machine's loopback."""
    term: int


class HostPort:
    """One local port."""

    def __init__(
        self,
        worker: Worker,
        weights: WeightFiles,
        counters: LoadCounters,
        digests: Digests,
        open_tunnel: OpenTunnel,
        threads: Executor,
        on_lost: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`on_lost` is told why a connection ended that its client had not closed."""
        self.worker = worker
        self.weights = weights
        self.counters = counters
        self._digests = digests
        self._open_tunnel = open_tunnel
        self._threads = threads
        self._on_lost = on_lost
        self._client: LocalClient | None = None
        self._named = asyncio.Event()
        self._listening: socket.socket | None = None
        self._tasks = TaskSet()

    def listen(self) -> int:
        """Return the port, now open. Raises: OSError."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.bind((LOOPBACK, 0))
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        self._listening = sock
        self._tasks.spawn(self._accept(sock))
        port: int = sock.getsockname()[1]
        return port

    def name_client(self, client: LocalClient) -> None:
        """This process may connect from now on, and no other."""
        self._client = client
        self._named.set()

    async def close(self) -> None:
        """Close the port and every connection of it."""
        await self._tasks.cancel()
        if self._listening is not None:
            self._listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError as error:
                _log.warning("a tunnel port cannot accept: %s", error)
                await asyncio.sleep(0.1)
                continue
            if len(self._tasks) > CONNECTIONS_MAX:
                _turn_away(client)
            else:
                self._tasks.spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        who = self.worker.peer[:12]
        try:
            client.setblocking(False)
            if not await self._may_connect(client):
                self.counters.refused += 1
                _log.warning("a local process that is not its engine tried the tunnel to %s", who)
                _turn_away(client)
                return
            with contextlib.suppress(OSError):  # gone again already
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if (reason := await self._carry(client)) is not None:
                _log.warning("the tunnel to %s ended early: %s", who, reason)
                self._on_lost(reason)
        finally:
            client.close()
            await asyncio.get_running_loop().run_in_executor(self._threads, self._digests.save)

    async def _carry(self, client: socket.socket) -> str | None:
        """Carry a connection to its end; return why it was lost, or None where the client ended it."""
        wanted = words.encode(OpenRpc(self.worker.rpc_port, self.worker.term))
        end: HostEnd | None = None
        reason = "the rpc-server closed it"
        try:
            tunnel = await self._open_tunnel(self.worker.peer, RPC_PURPOSE, wanted)
            self.counters.connections += 1
            end = HostEnd(client, tunnel, self.weights, self._digests, self.counters, self._threads)
            await end.run()
        except (OSError, WeightsFault, WordFault) as fault:
            reason = str(fault)
        return None if end is not None and end.client_gone else reason

    async def _may_connect(self, client: socket.socket) -> bool:
        try:
            async with asyncio.timeout(CLIENT_WAIT_S):
                await self._named.wait()
        except TimeoutError:
            return False
        assert self._client is not None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._client.holds, client)


def _turn_away(client: socket.socket) -> None:
    """Close at once, so that the other end sees a reset and no answer."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
