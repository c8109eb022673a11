"""`python -m benchmarks.console.tabs PORT COUNT`: what so many open console tabs do to a node.

Each holds the live websocket, reads every frame and acknowledges it, as the page does, until standard
input closes. Prints `open` once all are.
"""

import asyncio
import re
import sys

from benchmarks.console_tab import CLOSE, PING, PONG, TEXT, masked, opened, read_frame

_NUMBER = re.compile(rb'"n":(\d+)\}$')


async def hold(port: int) -> asyncio.Task[None]:
    """Return the task that keeps one tab open. Raises ConnectionError where the console refuses it."""
    return asyncio.create_task(_acknowledge(*await opened(port)))


async def _acknowledge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        opcode, payload = await read_frame(reader)
        if opcode == CLOSE:
            raise ConnectionError("the console closed a tab")
        if opcode == PING:
            writer.write(masked(PONG, payload))
        if opcode == TEXT and (found := _NUMBER.search(payload)):
            writer.write(masked(TEXT, b'{"type":"ack","n":%s}' % found.group(1)))


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
