"""`python -m benchmarks.console_tab PORT`: what one open console tab keeps open, the live websocket.

Reads and drops every frame and answers pings, until its stdin closes (RFC 6455, client side).
"""

import asyncio
import base64
import os
import sys

PATH = "/ws/topology"
_PING, _PONG, _CLOSE = 0x9, 0xA, 0x8


async def watch(port: int) -> None:
    """Hold the websocket open. Raises ConnectionError where the console refuses it."""
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
    print("open", flush=True)
    while True:
        opcode, payload = await _frame(reader)
        if opcode == _CLOSE:
            return
        if opcode == _PING:
            mask = os.urandom(4)
            masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
            writer.write(bytes((0x80 | _PONG, 0x80 | len(payload))) + mask + masked)


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
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
