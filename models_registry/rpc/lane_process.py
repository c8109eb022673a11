"""The node's handle on its lane process: starts it, tells it what holds, asks it for things, restarts it.

Decides nothing but that: what is told stays true over a restart (trust, addresses, grants, shared
models, the listening port); local ports do not, and whoever opened them is told. Usable on the node's
loop: nothing here takes longer than writing a small message.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from models_registry.guard import identity
from models_registry.log_ring import EngineLog
from models_registry.progress import OnProgress, Progress
from models_registry.rpc import control_words as cw
from models_registry.rpc.control_socket import ControlSocket
from models_registry.supervision.process import ChildProcess
from models_registry.supervision.roster import Roster
from nodes.mesh.ids import NodeId
from nodes.runtime.lane.endpoints import LaneEndpoint
from nodes.runtime.tasks import TaskSet
from nodes.runtime.trust import Trust

MODULE = "models_registry.rpc.lane_child"
WHAT = "the bulk lane"
CALL_S = 30.0
"""How long an answer may take; a fetch has as long as it needs."""
CALLS_MAX = 256
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
HEALTHY_AFTER_S = 30.0
_log = logging.getLogger(__name__)

OpenQuic = Callable[[NodeId], Awaitable[socket.socket]]
"""Returns a local socket joined to a fresh QUIC stream of kind `bulk` to this peer (`lane.bulk`)."""


class LaneFault(Exception):
    """The lane process could not do it. The text is a clause for people."""


class LaneProcess:
    """The lane of one node. `start` first."""

    def __init__(
        self,
        roster: Roster,
        log: EngineLog,
        trust: Trust,
        open_quic: OpenQuic,
        *,
        digests_folder: Path | None,
        on_report: Callable[[cw.Report], None] = lambda report: None,
        on_ports_lost: Callable[[], None] = lambda: None,
        on_port_lost: Callable[[int, str], None] = lambda port, reason: None,
    ) -> None:
        """`roster` comes from `Supervisor.guarded_roster`. `on_ports_lost`: the process died, and with
        it every local port and tunnel: the engines that used them are at their end. `on_port_lost`: one
        local port's connection broke, and why: so is the engine that used it."""
        self._roster = roster
        self._log = log
        self._trust = trust
        self._open_quic = open_quic
        self._digests_folder = digests_folder
        self._on_report = on_report
        self._on_ports_lost = on_ports_lost
        self._on_port_lost = on_port_lost
        self._child: ChildProcess | None = None
        self._control: ControlSocket | None = None
        self._decoder = msgspec.msgpack.Decoder(cw.AnyNotice)
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[cw.Done]] = {}
        self._progress: dict[int, tuple[str, OnProgress]] = {}
        self._endpoints: dict[NodeId, LaneEndpoint] = {}
        self._grants: dict[int, cw.GiveGrant] = {}
        self._shared: dict[str, list[str]] = {}
        self._listening: tuple[str | None, int] | None = None
        self._tasks = TaskSet()
        self._closing = False
        self.report = cw.Report()
        """The last that the process told."""

    @property
    def pid(self) -> int | None:
        """The process id; None while there is none."""
        return self._child.pid if self._child is not None else None

    @property
    def listen_port(self) -> int:
        """The lane's TCP port; 0: it does not listen."""
        return self._listening[1] if self._listening is not None else 0

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the process. From now on it is started again whenever it ends, until `close`.

        Raises:
            OSError: the system could not start a process.
        """
        await self._spawn()
        self._tasks.spawn(self._keep())

    async def close(self) -> None:
        """End the process: its socket closes, which is enough; else TERM, TERM, KILL."""
        self._closing = True
        await self._tasks.cancel()
        child, self._child = self._child, None
        if self._control is not None:
            self._control.close()
        if child is not None:
            await asyncio.wait({child.ended}, timeout=1.0)
            await child.end()
        self._log.close()

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._child = await ChildProcess.spawn(
                [sys.executable, "-P", "-m", MODULE, str(self._digests_folder or "")],
                env=_environment(), what=WHAT, log=self._log, roster=self._roster,
                stdin=theirs.fileno(),
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ControlSocket(ours, cw.MESSAGE_MAX_BYTES, self._heard, self._lost)
        self._send(self._standing())
        for peer, endpoint in self._endpoints.items():
            self._send(cw.SetEndpoint(peer=peer, host=endpoint.host, port=endpoint.port))
        self._send(cw.Share(models=self._shared))

    async def _keep(self) -> None:
        """Start the process again after each end."""
        loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
        while True:
            began_s = loop.time()
            if self._child is not None:
                await self._child.over()
                self._child = None
                if self._control is not None:
                    self._control.close()
                _log.warning("the lane process ended; starting it again")
            if loop.time() - began_s > HEALTHY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            try:
                await self._spawn()
                await self._say_again()
            except (OSError, LaneFault) as fault:
                _log.warning("the lane process could not be started again: %s", fault)

    async def _say_again(self) -> None:
        """Have the new process listen and admit as the old one did."""
        if self._listening is not None:
            await self.listen(*self._listening)
        for grant in list(self._grants.values()):
            if self._grants.get(grant.port) is grant:  # Not withdrawn meanwhile.
                await self._ask(grant)

    def _lost(self) -> None:
        """The control socket is closed."""
        for waiting in self._calls.values():
            if not waiting.done():
                waiting.set_exception(LaneFault("the lane process ended"))
        self._calls.clear()
        self._progress.clear()
        self.report = cw.Report()
        if not self._closing:
            self._on_ports_lost()
            self._on_report(self.report)

    # --- what holds -------------------------------------------------------------------------------

    def trust_changed(self) -> None:
        """The node's credential, the mesh's keys or its revocations are others now."""
        self._send(self._standing())

    def _standing(self) -> cw.SetTrust:
        revocations, rotations = self._trust.records()
        return cw.SetTrust(
            seed=self._trust.identity.private_key.private_bytes_raw(),
            credential=self._trust.credential().encode(),
            epochs=self._trust.epochs(),
            revocations=revocations,
            rotations=rotations,
        )

    def set_endpoint(self, peer: NodeId, endpoint: LaneEndpoint | None) -> None:
        """A peer listens there for the lane, as learnt over the peer link; None: nowhere."""
        if endpoint is None:
            self._endpoints.pop(peer, None)
        else:
            self._endpoints[peer] = endpoint
        host, port = (endpoint.host, endpoint.port) if endpoint is not None else ("", 0)
        self._send(cw.SetEndpoint(peer=peer, host=host, port=port))

    def drop_peer(self, peer: NodeId) -> None:
        """A peer is dead: end its tunnels now, and forget where it was."""
        self._endpoints.pop(peer, None)
        self._send(cw.SetEndpoint(peer=peer, host="", port=0))
        self._send(cw.DropPeer(peer=peer))

    def share(self, models: Mapping[str, Sequence[str]]) -> None:
        """Members may fetch these models and no others: name -> paths of all files, the first part first."""
        self._shared = {name: list(files) for name, files in models.items()}
        self._send(cw.Share(models=self._shared))

    async def listen(self, host: str | None, port: int) -> int:
        """Return the TCP port after it is open; `host` None: every interface, `port` 0: any.

        Raises:
            LaneFault: the port is taken, or there is no process.
        """
        done = await self._ask(cw.Listen(host=host, port=port))
        self._listening = (host, done.number)
        return done.number

    # --- as a worker ------------------------------------------------------------------------------

    async def grant(self, port: int, peer: NodeId, term: int, files: Sequence[str]) -> list[str]:
        """Let `peer`, the host of a split in this term, reach the rpc-server on this loopback port.

        `files` are this node's own of the split's models, for feeding. Returns a clause for each that
        cannot be used.

        Raises:
            LaneFault: a newer term is known for this port, or there is no process.
        """
        command = cw.GiveGrant(port=port, peer=peer, term=term, files=list(files))
        done = await self._ask(command)
        self._grants[port] = command
        return done.notes

    def withdraw(self, port: int) -> None:
        """Let nobody reach that rpc-server any more; tunnels to it end now."""
        self._grants.pop(port, None)
        self._send(cw.Withdraw(port=port))

    # --- as a host --------------------------------------------------------------------------------

    async def open_port(
        self,
        peer: NodeId,
        rpc_port: int,
        term: int,
        files: Sequence[str],
        *,
        expected_bytes: int = 0,
    ) -> int:
        """Return a local port that leads to a worker's rpc-server, for llama-server's ``--rpc``.

        `files` are the host's own of what it will load, the draft's too; one that cannot be used is
        logged, and its weights cross the lane. Nobody can connect before `name_client`. Cancelling gives
        it up: a port that is opened all the same is closed.

        Raises:
            LaneFault: too many ports, or there is no process.
        """
        command = cw.OpenPort(
            peer=peer,
            rpc_port=rpc_port,
            term=term,
            files=list(files),
            expected_bytes=expected_bytes,
        )
        asking = asyncio.ensure_future(self._ask(command))
        try:
            done = await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._tasks.spawn(self._close_late(asking))
            raise
        for note in done.notes:
            _log.warning("weights of it are not recognised: %s", note)
        return done.number

    def name_client(self, port: int, pid: int) -> None:
        """Only this process, llama-server, may connect to that local port. Call right after its spawn."""
        known = identity(pid)
        if known is not None:
            self._send(cw.NameClient(port=port, pid=pid, identity=known))

    async def _close_late(self, asking: "asyncio.Task[cw.Done]") -> None:
        with contextlib.suppress(LaneFault):
            await self.close_port((await asking).number)

    async def close_port(self, port: int) -> None:
        """Close a local port and its tunnels; a port that is not open is no fault."""
        with contextlib.suppress(LaneFault):
            await self._ask(cw.ClosePort(port=port))

    # --- files ------------------------------------------------------------------------------------

    async def prepare(self, files: Sequence[str]) -> list[str]:
        """Hash these files' tensors in the background: a split with them is foreseen. Raises: LaneFault."""
        return (await self._ask(cw.Prepare(files=list(files)))).notes

    async def fetch(
        self, peer: NodeId, model: str, folder: Path, on_progress: OnProgress
    ) -> list[Path]:
        """Return a model's files once they are whole in `folder`, fetched from a peer that shares it.

        Cancelling gives it up; what came is kept for the next try. `on_progress` is called on the loop.

        Raises:
            LaneFault: a sentence that says why, and what to do.
        """
        call = next(self._numbers)
        self._progress[call] = (model, on_progress)
        try:
            done = await self._ask(
                cw.Fetch(call=call, peer=peer, model=model, folder=str(folder)), limit_s=None
            )
        except asyncio.CancelledError:
            self._send(cw.StopFetch(of_call=call))
            raise
        finally:
            self._progress.pop(call, None)
        return [Path(path) for path in done.notes]

    # --- the QUIC fallback ------------------------------------------------------------------------

    def adopt(self, peer: NodeId, sock: socket.socket) -> None:
        """Give the process a socket joined to a QUIC stream that a peer opened. Raises: OSError."""
        if self._control is None or self._control.closed:
            raise OSError("there is no lane process")
        self._send(cw.Adopt(peer=peer), sock)

    async def _join(self, wish: int, peer: NodeId) -> None:
        try:
            sock = await self._open_quic(peer)
        except Exception as error:
            if not isinstance(error, OSError):
                _log.exception("no QUIC stream for the lane, by an error of ours")
            self._send(cw.NotJoined(wish=wish, reason=str(error)))
            return
        self._send(cw.Joined(wish=wish), sock)
        sock.close()

    # --- the control socket -----------------------------------------------------------------------

    async def _ask(self, command: cw.Command, limit_s: float | None = CALL_S) -> cw.Done:
        if self._control is None or self._control.closed or len(self._calls) >= CALLS_MAX:
            raise LaneFault("there is no lane process now")
        command.call = command.call or next(self._numbers)
        waiting: asyncio.Future[cw.Done] = asyncio.get_running_loop().create_future()
        self._calls[command.call] = waiting
        try:
            self._send(command)
            async with asyncio.timeout(limit_s):
                return await waiting
        except TimeoutError:
            raise LaneFault(f"the lane process did not answer within {limit_s:g} s") from None
        finally:
            self._calls.pop(command.call, None)

    def _send(self, command: cw.Command, carried: socket.socket | None = None) -> None:
        if self._control is not None:
            self._control.send(msgspec.msgpack.encode(command), carried)

    def _heard(self, content: bytes) -> None:
        notice: Any = self._decoder.decode(content)
        match notice:
            case cw.Done(call=call) | cw.Failed(call=call):
                waiting = self._calls.get(call)
                if waiting is None or waiting.done():
                    return
                if isinstance(notice, cw.Done):
                    waiting.set_result(notice)
                else:
                    waiting.set_exception(LaneFault(notice.reason))
            case cw.Progressed(call=call) if call in self._progress:
                model, on_progress = self._progress[call]
                on_progress(Progress(model, notice.phase, notice.done_bytes, notice.total_bytes))
            case cw.WantQuic(wish=wish, peer=peer):
                self._tasks.spawn(self._join(wish, NodeId(peer)))
            case cw.PortLost(port=port, reason=reason):
                self._on_port_lost(port, reason)
            case cw.Report():
                self.report = notice
                self._on_report(notice)


def _environment() -> dict[str, str]:
    """Return what the process needs of an environment: where this program is, and nothing secret."""
    root = Path(__file__).resolve().parent.parent.parent
    return {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
