"""The API on a real socket, in front of scripted engines."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.routing import ModelState, RoutingTable, Upstream
from proxy.asgi import ApiApp, ApiConfig
from proxy.front import ApiServer
from proxy.records import RequestRecord
from tests.proxy.fake_upstream import FakeUpstream

NODE = NodeId("ab" * 32)


def upstream(port: int, model: str = "demo", node: str = NODE, **changes: Any) -> Upstream:
    made = Upstream(
        NodeId(node), ModelName(model), ModelState.READY, "127.0.0.1", port, 4, 4096, frozenset()
    )
    return replace(made, **changes)


@dataclass
class Api:
    """A running API."""

    app: ApiApp
    server: ApiServer
    port: int
    records: list[RequestRecord]
    upstreams: list[Upstream] = field(default_factory=list)

    async def connect(self) -> "Client":
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ask(self, raw: bytes) -> bytes:
        """Send raw bytes, return everything until the server closes."""
        client = await self.connect()
        await client.send(raw)
        answer = await client.rest()
        client.close()
        return answer

    async def post(
        self, path: str, body: bytes, headers: bytes = b"", method: str = "POST"
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        client = await self.connect()
        try:
            await client.send(post(path, body, headers, method))
            return await client.answer()
        finally:
            client.close()

    async def get(self, path: str, headers: bytes = b"", method: str = "GET") -> Any:
        return await self.post(path, b"", headers, method)


def post(path: str, body: bytes, headers: bytes = b"", method: str = "POST") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if method == "POST" else b""
    return b"%b %b HTTP/1.1\r\nHost: localhost\r\n%b%b\r\n%b" % (
        method.encode(),
        path.encode(),
        length,
        headers,
        body,
    )


@dataclass
class Client:
    """A raw HTTP client: what it sends is what the test wrote."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self, wait_s: float = 10) -> bytes:
        """Return all bytes until the end; a reset ends it with ConnectionResetError."""
        return await asyncio.wait_for(self.reader.read(-1), wait_s)

    async def until(self, mark: bytes, wait_s: float = 10) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(mark), wait_s)

    async def answer(self, head_only: bool = False) -> tuple[int, dict[bytes, bytes], bytes]:
        """Return (status, headers, body) of one answer."""
        head = await self.until(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split()[1])
        pairs = (line.split(b": ", 1) for line in lines[1:] if line)
        headers = {pair[0].lower(): pair[1] for pair in pairs}
        if head_only or status in (204, 304):
            return status, headers, b""
        if b"content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"transfer-encoding") == b"chunked":
            return status, headers, await self.chunked()
        return status, headers, await self.rest()

    async def chunked(self) -> bytes:
        """Return a chunked body. Raises IncompleteReadError when it is cut."""
        body = b""
        while True:
            size = int(await self.until(b"\r\n"), 16)
            piece = await self.reader.readexactly(size + 2)
            if size == 0:
                return body
            body += piece[:-2]

    def reset(self) -> None:
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


StartApi = Callable[..., Awaitable[Api]]


@pytest.fixture
async def start_api() -> AsyncIterator[StartApi]:
    """Return a function that starts an API before engines, with changes of its config."""
    async with AsyncExitStack() as stack:

        async def start(*engines: FakeUpstream, **changes: Any) -> Api:
            config = ApiConfig(**{"sweep_interval_s": 0.05, **changes})
            sock = socket.create_server(("127.0.0.1", 0))
            # Ever fewer slots: while nothing runs, they are asked in the order in which they are given.
            upstreams = [
                upstream(e.port, node=f"{n:02x}" * 32, slots=64 >> n)
                for n, e in enumerate(engines, start=1)
            ]
            records: list[RequestRecord] = []
            app = ApiApp(
                config, lambda: RoutingTable(NODE, tuple(upstreams), 1), records.append, NODE
            )
            server = ApiServer(app, [sock], config)
            await server.start()

            async def stop() -> None:
                await server.stop(0)
                app.close()

            stack.push_async_callback(stop)
            return Api(app, server, sock.getsockname()[1], records, upstreams)

        yield start


@pytest.fixture
async def engine() -> AsyncIterator[FakeUpstream]:
    """One scripted engine."""
    async for fake in _engine():
        yield fake


@pytest.fixture
async def other_engine() -> AsyncIterator[FakeUpstream]:
    """A second scripted engine."""
    async for fake in _engine():
        yield fake


async def _engine() -> AsyncIterator[FakeUpstream]:
    fake = FakeUpstream()
    await fake.start()
    yield fake
    await fake.stop()


async def eventually(true: Callable[[], object], wait_s: float = 5) -> None:
    """Wait until `true()` is."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while not true():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
