"""`python -m benchmarks.console.tabs PORT COUNT`: what so many open console tabs do to a node.

Each holds the live websocket, reads every frame and acknowledges it, as the page does, until standard
input closes. Prints `open` once all are.
"""

import asyncio
import base64
import os
import re
import sys

from benchmarks.console_tab import PATH, _frame

_TEXT, _PING, _PONG, _CLOSE = 0x1, 0x9, 0xA, 0x8
_NUMBER = re.compile(rb'"n":(\d+)\}$')


def _masked(opcode: int, payload: bytes) -> bytes:
    mask = os.urandom(4)
    body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((0x80 | opcode, 0x80 | len(payload))) + mask + body


async def hold(port: int) -> asyncio.Task[None]:
    """Return the task that keeps one tab open. Raises ConnectionError where the console refuses it."""
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
    return asyncio.create_task(_acknowledge(reader, writer))


async def _acknowledge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        opcode, payload = await _frame(reader)
        if opcode == _CLOSE:
            raise ConnectionError("the console closed a tab")
        if opcode == _PING:
            writer.write(_masked(_PONG, payload))
        if opcode == _TEXT and (found := _NUMBER.search(payload)):
            writer.write(_masked(_TEXT, b'{"type":"ack","n":%s}' % found.group(1)))


async def _until_told(port: int, count: int) -> None:
    tabs = [await hold(port) for _ in range(count)]
    print("open", flush=True)
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    done, _ = await asyncio.wait({told, *tabs}, return_when=asyncio.FIRST_COMPLETED)
    for tab in tabs:
        if tab in done:
            tab.result()
        tab.cancel()


if __name__ == "__main__":
    asyncio.run(_until_told(int(sys.argv[1]), int(sys.argv[2])))
