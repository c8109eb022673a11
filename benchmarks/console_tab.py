"""`python -m benchmarks.console_tab PORT`: what one open console tab keeps open, the live websocket.

Reads and drops every frame and answers pings, until its stdin closes (RFC 6455, client side).
"""

import asyncio
import base64
import os
import sys

PATH = "/ws/topology"
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the open websocket. Raises ConnectionError where the console refuses it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise ConnectionError(head.split(b"\r\n")[0].decode("latin-1"))
    return reader, writer


async def watch(port: int) -> None:
    """Hold the websocket open. Raises ConnectionError where the console refuses it."""
    reader, writer = await opened(port)
    print("open", flush=True)
    while True:
        opcode, payload = await read_frame(reader)
        if opcode == CLOSE:
            return
        if opcode == PING:
            writer.write(masked(PONG, payload))


def masked(opcode: int, payload: bytes) -> bytes:
    """Return a short frame as a client sends it (RFC 6455, 5.3)."""
    mask = os.urandom(4)
    body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((0x80 | opcode, 0x80 | len(payload))) + mask + body


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the next frame's opcode and payload."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        length = int.from_bytes(await reader.readexactly(2))
    elif length == 127:
        length = int.from_bytes(await reader.readexactly(8))
    return first & 0x0F, await reader.readexactly(length)


async def _until_told(port: int) -> None:
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    watching = asyncio.create_task(watch(port))
    done, _ = await asyncio.wait({told, watching}, return_when=asyncio.FIRST_COMPLETED)
    if watching in done:
        watching.result()
        raise ConnectionError("the console closed the websocket")
    watching.cancel()


if __name__ == "__main__":
    asyncio.run(_until_told(int(sys.argv[1])))
