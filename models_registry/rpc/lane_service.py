"""What the lane process does for each command of the node: the lane, the tunnels' ends, the files.

Lives in the lane's own process and loop (`lane_child`); decides nothing that the node has not told.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models_registry.progress import Progress
from models_registry.rpc import control_words as cw
from models_registry.rpc.counters import LoadCounters
from models_registry.rpc.digests import Digests
from models_registry.rpc.file_fetch import FetchFailed, FileFetch
from models_registry.rpc.file_share import FileShare
from models_registry.rpc.file_words import FILE_PURPOSE
from models_registry.rpc.grants import Grant, NotGranted
from models_registry.rpc.host_ports import HostPort, Worker
from models_registry.rpc.local_client import LocalClient
from models_registry.rpc.preparing import Preparing
from models_registry.rpc.weights import open_all
from models_registry.rpc.words import RPC_PURPOSE
from models_registry.rpc.worker_door import WorkerDoor
from nodes.mesh.ids import NodeId
from nodes.runtime.credentials import Credential
from nodes.runtime.identity import Identity, node_id_of
from nodes.runtime.lane.endpoints import LaneEndpoint
from nodes.runtime.lane.lane import Lane
from nodes.runtime.lane.settings import LaneSettings
from nodes.runtime.tasks import TaskSet
from nodes.runtime.trust import Trust

THREADS = 16
"""For comparing, feeding, hashing and writing; a split has few weights under way at a time."""
REPORT_S = 1.0
PORTS_MAX = 64
"""Local ports of this host; one for each worker."""
QUIC_WAIT_S = 10.0
"""How long the node may take to join a QUIC stream."""
_log = logging.getLogger(__name__)

Tell = Callable[[msgspec.Struct], None]


def trust_of(told: cw.SetTrust) -> Trust:
    """Return the trust that the node has: its standing, and the mesh's keys and revocations."""
    key = Ed25519PrivateKey.from_private_bytes(told.seed)
    trust = Trust(
        Identity(key, node_id_of(key.public_key())), None, Credential.decode(told.credential)
    )
    trust.restore_epochs(told.epochs)
    trust.add_records(told.revocations, told.rotations)
    return trust


class LaneService:
    """The lane process's inside. Made on its loop."""

    def __init__(
        self,
        trust: Trust,
        tell: Tell,
        take_socket: Callable[[], socket.socket],
        digests_folder: Path | None,
        settings: LaneSettings | None = None,
    ) -> None:
        """`take_socket` returns the socket that came with the command being handled."""
        self._tell = tell
        self._take_socket = take_socket
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="weights")
        self._digests = Digests(digests_folder)
        self._preparing = Preparing(self._digests)
        self._door = WorkerDoor(self._digests, self._preparing, self._threads)
        self._share = FileShare(self._digests, self._threads)
        handlers = {RPC_PURPOSE: self._door.serve, FILE_PURPOSE: self._share.serve}
        self._lane = Lane(trust, handlers, self._want_quic, settings)
        self._ports: dict[int, HostPort] = {}
        self._fetches: dict[int, asyncio.Task[None]] = {}
        self._wishes: dict[int, asyncio.Future[socket.socket]] = {}
        self._wish_numbers = itertools.count(1)
        self._tasks = TaskSet()
        self._told = b""
        self._tasks.spawn(self._report())

    def do(self, command: cw.AnyCommand) -> None:
        """Carry out a command; what takes time is answered later."""
        match command:
            case cw.SetTrust():
                self._lane.set_trust(trust_of(command))
            case cw.SetEndpoint(peer=peer, host=host, port=port):
                endpoint = LaneEndpoint(host, port) if port else None
                self._lane.endpoints.set(NodeId(peer), endpoint)
            case cw.DropPeer(peer=peer):
                self._lane.drop(NodeId(peer))
            case cw.Withdraw(port=port):
                # Behind a grant that came just before, which begins as a task.
                asyncio.get_running_loop().call_soon(self._door.withdraw, port)
            case cw.NameClient(port=port, pid=pid, identity=identity):
                if port in self._ports:
                    self._ports[port].name_client(LocalClient(pid, identity))
            case cw.Share(models=models):
                self._share.share({name: [Path(p) for p in f] for name, f in models.items()})
            case cw.StopFetch(of_call=call):
                if call in self._fetches:
                    self._fetches[call].cancel()
            case cw.Joined(wish=wish):
                self._settle(wish, self._take_socket())
            case cw.NotJoined(wish=wish, reason=reason):
                self._settle(wish, ConnectionError(reason))
            case cw.Adopt(peer=peer):
                self._tasks.spawn(self._adopt(NodeId(peer), self._take_socket()))
            case cw.Fetch():
                self._fetch(command)
            case _:
                self._tasks.spawn(self._answer(command.call, self._slow(command)))

    async def _slow(self, command: cw.AnyCommand) -> cw.Done:
        """Carry out a command that has to wait for something. Raises: OSError, NotGranted."""
        match command:
            case cw.Listen(call=call, host=host, port=port):
                return cw.Done(call, await self._lane.listen(host, port))
            case cw.GiveGrant(call=call, port=port, peer=peer, term=term, files=files):
                grant = Grant(port, NodeId(peer), term)
                return cw.Done(call, 0, await self._door.grant(grant, [Path(p) for p in files]))
            case cw.OpenPort(call=call):
                return await self._open_port(command)
            case cw.ClosePort(call=call, port=port):
                opened = self._ports.pop(port, None)
                if opened is not None:
                    await opened.close()
                return cw.Done(call)
            case cw.Prepare(call=call, files=files):
                weights, faults = await self._opened(files)
                self._preparing.start(weights.files)
                return cw.Done(call, 0, faults)
            case _:
                raise AssertionError(command)

    async def _opened(self, files: list[str]) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, open_all, [Path(p) for p in files])

    async def _open_port(self, command: cw.OpenPort) -> cw.Done:
        if len(self._ports) >= PORTS_MAX:
            raise OSError(f"{PORTS_MAX} tunnel ports are open already")
        weights, faults = await self._opened(command.files)
        self._preparing.start(weights.files)
        port = HostPort(
            Worker(NodeId(command.peer), command.rpc_port, command.term),
            weights,
            LoadCounters(expected_bytes=command.expected_bytes),
            self._digests,
            self._lane.open,
            self._threads,
            lambda reason: self._tell(cw.PortLost(number, reason)),
        )
        number = port.listen()
        self._ports[number] = port
        return cw.Done(command.call, number, faults)

    async def _answer(self, call: int, work: Coroutine[Any, Any, cw.Done]) -> None:
        try:
            self._tell(await work)
        except (OSError, NotGranted, FetchFailed) as fault:
            self._tell(cw.Failed(call, str(fault)))
        except Exception as fault:
            _log.exception("a command of the node failed")
            self._tell(cw.Failed(call, f"an error of ours: {fault!r}"))

    # --- files ------------------------------------------------------------------------------------

    def _fetch(self, command: cw.Fetch) -> None:
        call = command.call

        def progressed(at: Progress) -> None:
            self._tell(cw.Progressed(call, at.phase, at.done_bytes, at.total_bytes))

        fetch = FileFetch(
            NodeId(command.peer), command.model, Path(command.folder), self._lane.open,
            self._threads, progressed,
        )  # fmt: skip

        async def run() -> cw.Done:
            return cw.Done(call, 0, [str(path) for path in await fetch.run()])

        async def answer() -> None:
            try:
                await self._answer(call, run())
            except asyncio.CancelledError:
                self._tell(cw.Failed(call, f"{command.model} is not fetched any more"))
                raise
            finally:
                self._fetches.pop(call, None)

        self._fetches[call] = asyncio.create_task(answer())

    # --- the QUIC fallback ------------------------------------------------------------------------

    async def _want_quic(self, peer: NodeId) -> socket.socket:
        """Return a socket that the node has joined to a QUIC stream. Raises: ConnectionError."""
        wish = next(self._wish_numbers)
        joined = asyncio.get_running_loop().create_future()
        self._wishes[wish] = joined
        self._tell(cw.WantQuic(wish, peer))
        try:
            async with asyncio.timeout(QUIC_WAIT_S):
                sock: socket.socket = await joined
                return sock
        except TimeoutError:
            raise ConnectionError("the node joined no stream in time") from None
        finally:
            self._wishes.pop(wish, None)

    def _settle(self, wish: int, outcome: socket.socket | ConnectionError) -> None:
        joined = self._wishes.pop(wish, None)
        if joined is None or joined.done():
            if isinstance(outcome, socket.socket):
                outcome.close()
        elif isinstance(outcome, socket.socket):
            joined.set_result(outcome)
        else:
            joined.set_exception(outcome)

    async def _adopt(self, peer: NodeId, sock: socket.socket) -> None:
        try:
            await self._lane.adopt(peer, sock)
        except OSError as error:
            _log.info("a QUIC stream of %s is of no use: %s", peer[:12], error)

    # --- reports ----------------------------------------------------------------------------------

    def report(self) -> cw.Report:
        """Return the state of everything."""
        ports = [
            cw.PortReport(number, port.worker.peer, port.worker.rpc_port, port.worker.term, port.counters)
            for number, port in self._ports.items()
        ]  # fmt: skip
        return cw.Report(self._lane.status(), ports, self._door.reports(), self._lane.refused)

    async def _report(self) -> None:
        while True:
            report = self.report()
            content = msgspec.msgpack.encode(report)
            if content != self._told:
                self._told = content
                self._tell(report)
            await asyncio.sleep(REPORT_S)

    async def close(self) -> None:
        """End everything."""
        for port in self._ports.values():
            await port.close()
        for task in self._fetches.values():
            task.cancel()
        await self._tasks.cancel()
        await self._lane.close()
        self._preparing.close()
        self._digests.save()
