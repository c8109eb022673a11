"""What an rpc-server really gets: a relay before it that writes every client's bytes to a file."""

import asyncio
import contextlib
import hashlib
from pathlib import Path
from types import TracebackType

from models_registry.rpc import protocol
from models_registry.rpc.weights import WeightFile


class RecordingRelay:
    """Passes on to `port`, and keeps what clients send, in one file each."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder
        self._count = 0

    async def __aenter__(self) -> int:
        self._folder.mkdir()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_upstream = await asyncio.open_connection("127.0.0.1", self._port)
        self._count += 1
        with (self._folder / f"{self._count}.bytes").open("wb") as kept:

            async def there() -> None:
                while content := await reader.read(1 << 20):
                    kept.write(content)
                    to_upstream.write(content)
                    await to_upstream.drain()
                to_upstream.write_eof()

            async def back() -> None:
                while content := await upstream.read(1 << 20):
                    writer.write(content)
                    await writer.drain()

            with contextlib.suppress(OSError):
                await asyncio.gather(there(), back())
        to_upstream.close()
        writer.close()


def wrong_tensors(model: Path, folder: Path) -> tuple[list[str], int]:
    """Return the names of weights whose bytes were not the file's, and how many were checked."""
    file = WeightFile(model)
    wrong, checked = [], 0
    for kept in folder.iterdir():
        content, at = kept.read_bytes(), 0
        while at < len(content):
            command, size = protocol.REQUEST_HEAD.unpack_from(content, at)
            body = content[at + protocol.REQUEST_HEAD.size :][:size]
            at += protocol.REQUEST_HEAD.size + size
            if command != protocol.SET_TENSOR:
                continue
            key = protocol.tensor_key(body)
            if key.name not in file.tensors:
                continue
            checked += 1
            sent = hashlib.sha256(body[protocol.SET_TENSOR_BYTES :]).digest()
            if sent != file.weight(file.tensors[key.name]).digest():
                wrong.append(key.name)
    return wrong, checked
