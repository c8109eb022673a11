"""One rpc-server of this node, whoever it computes for: its start, its port, its end, its freeze.

Decides when it is over: it ended by itself, or it stood still and was killed (`ChildProcess.over`).
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass

from models_registry.launch import Unsupported
from models_registry.log_ring import EngineLog
from models_registry.supervision.commands import EngineCommands
from models_registry.supervision.exit_reasons import exit_reason
from models_registry.supervision.process import STOPPED_BOUND_S, ChildProcess
from models_registry.supervision.roster import Roster

LOOPBACK = "127.0.0.1"
RPC_START_S = 15.0
PORT_POLL_S = 0.02


class RunFault(Exception):
    """The run cannot go on; the text is the sentence for the report of its end."""


def free_port() -> int:
    """Return a loopback port that nobody listened on a moment ago."""
    with socket.socket() as chosen:
        chosen.bind((LOOPBACK, 0))
        port: int = chosen.getsockname()[1]
        return port


async def spawn(
    argv: list[str], what: str, commands: EngineCommands, log: EngineLog, roster: Roster
) -> ChildProcess:
    """Return the started child. Raises: RunFault."""
    try:
        return await ChildProcess.spawn(argv, env=commands.env(), what=what, log=log, roster=roster)
    except OSError as fault:
        raise RunFault(f"{what} could not be started: {fault.strerror or fault}") from fault


@dataclass(frozen=True, slots=True)
class RpcEnd:
    """How an rpc-server ended."""

    returncode: int | None
    """None when it never ran."""
    reason: str


class RpcServer:
    """A running rpc-server. Make one with `start`."""

    def __init__(self, child: ChildProcess, port: int) -> None:
        self.child = child
        self.port = port
        """On loopback."""
        self.over = asyncio.create_task(self._watch(), name=f"watch {child.what}")
        """Done when it has ended, or stood still for so long that it was killed."""

    @classmethod
    async def start(
        cls,
        what: str,
        commands: EngineCommands,
        log: EngineLog,
        roster: Roster,
        on_spawn: Callable[[ChildProcess], None],
        stop: asyncio.Event,
    ) -> "RpcServer":
        """Return it once its port is open, or it has ended, or a stop was asked.

        `on_spawn` gets the child at once: it is the caller's to end, whatever happens here.

        Raises:
            RunFault: it could not be started, or did not open its port.
        """
        port = free_port()
        try:
            argv = commands.rpc_argv(port=port)
        except Unsupported as fault:
            raise RunFault(str(fault)) from fault
        child = await spawn(argv, what, commands, log, roster)
        on_spawn(child)
        made = cls(child, port)
        try:
            await made._until_open(stop)
        except BaseException:
            made.over.cancel()
            raise
        return made

    async def _until_open(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        by_s = loop.time() + RPC_START_S
        while not self.over.done() and not stop.is_set():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(LOOPBACK, self.port)
                writer.close()
                return
            if loop.time() > by_s:
                raise RunFault(
                    f"{self.child.what} did not open its port within {RPC_START_S:.0f} s"
                )
            await asyncio.sleep(PORT_POLL_S)

    async def _watch(self) -> RpcEnd:
        child = self.child
        if await child.over():
            why = f"was stopped (frozen) for {STOPPED_BOUND_S:.0f} s, so it was killed"
            return RpcEnd(child.ended.result(), f"{child.what} {why}")
        returncode = child.ended.result()
        reason = exit_reason(child.what, returncode, list(child.recent))
        return RpcEnd(None if child.never_ran else returncode, reason)
