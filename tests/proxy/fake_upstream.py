"""A scripted engine: raw asyncio, answers or misbehaves as told, and remembers what it was asked."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Script = Callable[["Call"], Awaitable[None]]


@dataclass
class Call:
    """One request as the engine sees it."""

    head: bytes
    body: bytes
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    number: int
    """How many requests came on this connection before."""

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def json(self, body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> None:
        await self.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b"
            % (status, len(body), more, body)
        )

    async def begin_stream(self) -> None:
        await self.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.write(b"0\r\n\r\n")

    def cut(self) -> None:
        self.writer.transport.abort()

    async def client_gone(self) -> None:
        """Wait until the proxy has closed the connection."""
        await self.reader.read()


def event(number: int) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"w%d"}}]}\n\n' % number


DONE = b"data: [DONE]\n\n"


async def answer_ok(call: Call) -> None:
    await call.json(b'{"ok":true,"usage":{"completion_tokens":7}}')


async def stream_ok(call: Call) -> None:
    await call.begin_stream()
    for n in range(3):
        await call.chunk(event(n))
    await call.chunk(DONE)
    await call.end_stream()


@dataclass
class FakeUpstream:
    """Serves one script; change `script` at any time."""

    script: Script = answer_ok
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    busy: int = 0
    """Connections that carried a request and still live: without the pool's spare one."""
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=2**16)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self.open += 1
        number = 0
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                size = _length(head)
                body = await reader.readexactly(size)
                call = Call(head, body, writer, reader, number)
                self.calls.append(call)
                self.busy += number == 0
                number += 1
                await self.script(call)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # `stop` alone cancels, and waits for the end
        finally:
            self.open -= 1
            self.busy -= number > 0
            writer.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0
