"""The lane's own process: `python -m models_registry.rpc.lane_child DIGESTS_FOLDER`.

Its standard input is one end of a socket pair whose other end only the node holds: commands come and
notices go there, and when it closes, for whatever reason, the process ends at once. uvloop where it
can be imported. Why a process of its own: at the lane's full rate its loop is late by tens of
milliseconds, which would look to the mesh like a dead node.
"""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import sys
from pathlib import Path

import msgspec

from models_registry.rpc import control_words as cw
from models_registry.rpc.control_socket import ControlSocket
from models_registry.rpc.lane_service import LaneService, trust_of
from nodes.runtime.unpack import UNPACK_FAULTS

CONTROL = 0
"""Standard input's descriptor."""
FAULT = 70
"""Exit code: the node said what cannot be read. (EX_SOFTWARE of sysexits.h)"""
_log = logging.getLogger("mesh.lane")


class LaneChild:
    """The process: the control socket on one side, the service on the other."""

    def __init__(self, control: socket.socket, digests_folder: Path | None) -> None:
        self._digests_folder = digests_folder
        self._decoder = msgspec.msgpack.Decoder(cw.AnyCommand)
        self._service: LaneService | None = None
        self._control = ControlSocket(control, cw.MESSAGE_MAX_BYTES, self._heard, _end_now)

    def _heard(self, content: bytes) -> None:
        try:
            command: cw.AnyCommand = self._decoder.decode(content)
        except UNPACK_FAULTS as error:
            _log.error("the node's command cannot be read: %s", error)
            os._exit(FAULT)
        if self._service is not None:
            self._service.do(command)
        elif isinstance(command, cw.SetTrust):
            self._service = LaneService(
                trust_of(command), self._tell, self._control.take_socket, self._digests_folder
            )
        else:
            _log.error("a command before the node's standing: %s", type(command).__name__)
            os._exit(FAULT)

    def _tell(self, notice: msgspec.Struct) -> None:
        self._control.send(msgspec.msgpack.encode(notice))


def _end_now() -> None:
    """The node is gone, or wants this to end: nothing in here is worth a moment's wait."""
    os._exit(0)


async def _live(digests_folder: Path | None) -> None:
    control = socket.socket(fileno=os.dup(CONTROL))
    LaneChild(control, digests_folder)
    await asyncio.Event().wait()


def main(argv: list[str]) -> None:
    """Live until the control socket closes."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop_factory = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_live(Path(argv[0]) if argv and argv[0] else None))


if __name__ == "__main__":
    main(sys.argv[1:])
