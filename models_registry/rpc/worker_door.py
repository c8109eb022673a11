"""The worker's door: tunnels that ask for an rpc-server of this machine, one at a time for each.

Decides nothing by itself: `grants` says who may, the lane says who asks. An rpc-server serves one
client and lets others wait without a word, so the next tunnel's connection is made only when the one
before has closed. A grant that is replaced or withdrawn ends the tunnels that it let in, at once.
"""

import asyncio
import logging
import socket
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from models_registry.rpc import words
from models_registry.rpc.control_words import ServerReport
from models_registry.rpc.counters import LoadCounters
from models_registry.rpc.digests import Digests
from models_registry.rpc.grants import Grant, Grants, NotGranted
from models_registry.rpc.preparing import Preparing
from models_registry.rpc.weights import WeightFiles, WeightsFault, open_all
from models_registry.rpc.words import Accepted, WordFault
from models_registry.rpc.worker_end import WorkerEnd
from nodes.runtime.lane.channel import LostCode
from nodes.runtime.lane.lane import Incoming

LOOPBACK = "127.0.0.1"
CONNECT_S = 5.0
WAITING_MAX = 64
"""Tunnels that wait for the one before; further ones are refused."""
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Server:
    """One granted rpc-server."""

    grant: Grant
    weights: WeightFiles
    counters: LoadCounters = field(default_factory=LoadCounters)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    tunnels: set["asyncio.Task[None]"] = field(default_factory=set)


class WorkerDoor:
    """All granted rpc-servers of this machine."""

    def __init__(self, digests: Digests, preparing: Preparing, threads: Executor) -> None:
        self._digests = digests
        self._preparing = preparing
        self._threads = threads
        self._grants = Grants()
        self._servers: dict[int, _Server] = {}

    async def grant(self, grant: Grant, files: list[Path]) -> list[str]:
        """Let a host in, fed from `files`; return a clause for each that cannot be used.

        Raises:
            NotGranted: a newer term is known, or there are too many.
        """
        if self._grants.give(grant) is not None:
            self._end(grant.port)
        loop = asyncio.get_running_loop()
        weights, faults = await loop.run_in_executor(self._threads, open_all, files)
        if not self._grants.holds(grant):
            return faults  # a later one was given meanwhile
        server = self._servers.get(grant.port)
        if server is not None:
            server.weights = weights  # for the tunnels to come
        else:
            self._servers[grant.port] = _Server(grant, weights)
        self._preparing.start(weights.files)
        return faults

    def withdraw(self, port: int) -> None:
        """Let nobody in any more."""
        self._grants.withdraw(port)
        self._end(port)

    def _end(self, port: int) -> None:
        server = self._servers.pop(port, None)
        if server is not None:
            for task in server.tunnels:
                task.cancel()

    def reports(self) -> list[ServerReport]:
        """Return who may reach each granted rpc-server, and what went to it."""
        return [
            ServerReport(port, server.grant.peer, server.grant.term, server.counters)
            for port, server in self._servers.items()
        ]

    async def serve(self, incoming: Incoming) -> None:
        """Serve one tunnel; the handler of `words.RPC_PURPOSE`."""
        try:
            wanted = words.decode_open(incoming.details)
            grant = self._grants.require(incoming.peer_id, wanted.port, wanted.term)
        except (NotGranted, WordFault) as fault:
            _log.warning("%s was refused an rpc-server: %s", incoming.peer_id[:12], fault)
            incoming.refuse(LostCode.REFUSED, str(fault))
            return
        server = self._servers.get(grant.port)
        if server is None or server.grant != grant:
            incoming.refuse(LostCode.REFUSED, "the split is being set up")
            return
        if len(server.tunnels) >= WAITING_MAX:
            incoming.refuse(LostCode.REFUSED, "too many connections wait for this rpc-server")
            return
        task = asyncio.current_task()
        assert task is not None
        server.tunnels.add(task)
        try:
            async with server.turn:
                await self._carry(server, incoming)
        finally:
            server.tunnels.discard(task)

    async def _carry(self, server: _Server, incoming: Incoming) -> None:
        try:
            upstream = await _connect(server.grant.port)
        except OSError as error:
            incoming.refuse(LostCode.REFUSED, f"the rpc-server does not answer ({error})")
            return
        try:
            tunnel = incoming.accept(words.encode(Accepted(server.weights.keys)))
            server.counters.connections += 1
            await WorkerEnd(
                upstream, tunnel, server.weights, self._digests, server.counters, self._threads
            ).run()
        except (OSError, WeightsFault, WordFault) as fault:
            _log.warning("a tunnel of %s ended early: %s", incoming.peer_id[:12], fault)
        finally:
            upstream.close()
            await asyncio.get_running_loop().run_in_executor(self._threads, self._digests.save)


async def _connect(port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(sock, (LOOPBACK, port))
    except BaseException:
        sock.close()
        raise
    return sock
