"""The four loads. Each returns what it saw and never raises on what the target does."""

import asyncio
import itertools
import socket
import time

import msgspec

from benchmarks.loadgen.client import Answer, Connection, connect, request_bytes
from benchmarks.loadgen.spec import LoadResult, LoadSpec

TOKENS_BEFORE_DISCONNECT = 3
SLOT_POLL_S = 0.002
SLOT_FREE_LIMIT_S = 10.0
CLOSE_NOTICE_S = 0.002
"""What a server that closes after a stream gets to do so, before the connection counts as reusable."""


async def run(spec: LoadSpec) -> LoadResult:
    """Return the result of the load that `spec` names."""
    loads = {
        "sequence": _sequence,
        "streams": _streams,
        "disconnect": _disconnect,
        "never_reads": _never_reads,
    }
    started_s = time.monotonic()
    try:
        result = await loads[spec.kind](spec)
    except (OSError, TimeoutError) as error:
        result = LoadResult(error=f"{type(error).__name__}: {error}")
    result.wall_s = time.monotonic() - started_s
    result.own_cpu_s = time.process_time()
    return result


def _request(spec: LoadSpec) -> bytes:
    return request_bytes(spec.host, spec.port, spec.path, msgspec.json.encode(spec.body), spec.key)


def _add(result: LoadResult, answer: Answer) -> None:
    if answer.status == 200 and answer.done:
        result.finished += 1
    else:
        result.failed += 1
    result.tokens += len(answer.token_times_s)
    if answer.first_byte_s is not None and answer.status == 200:
        result.ttfb_s.append(answer.first_byte_s - answer.sent_s)
    times = answer.token_times_s
    result.gaps_s.extend(later - earlier for earlier, later in itertools.pairwise(times))


async def _sequence(spec: LoadSpec) -> LoadResult:
    """One client, one request after the other, the connection opened ahead of the clock."""
    result = LoadResult()
    request, mark = _request(spec), spec.token_mark.encode()
    connection: Connection | None = None
    for index in range(spec.warm_up + spec.count):
        if connection is None or not connection.alive:
            connection = await connect(spec.host, spec.port, mark)
        answer = await asyncio.wait_for(connection.ask(request), spec.timeout_s)
        if index >= spec.warm_up:
            _add(result, answer)
        if mark:
            await asyncio.sleep(CLOSE_NOTICE_S)
    return result


async def _streams(spec: LoadSpec) -> LoadResult:
    """`count` concurrent streams, starting evenly over `arrival_s`."""
    result = LoadResult()
    request, mark = _request(spec), spec.token_mark.encode()
    answers: list[Answer] = []

    async def one(index: int) -> None:
        await asyncio.sleep(spec.arrival_s * index / spec.count)
        connection = await connect(spec.host, spec.port, mark)
        answers.append(connection.start(request))
        await connection.complete()
        connection.transport.close()

    tasks = [asyncio.create_task(one(index)) for index in range(spec.count)]
    _, late = await asyncio.wait(tasks, timeout=spec.timeout_s)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for answer in answers:
        _add(result, answer)
    result.failed += spec.count - len(answers)
    return result


async def _disconnect(spec: LoadSpec) -> LoadResult:
    """Open a stream, go away after some tokens, and wait until the engine's slot is idle."""
    result = LoadResult()
    request, mark = _request(spec), spec.token_mark.encode()
    for _ in range(spec.count):
        connection = await connect(spec.host, spec.port, mark)
        answer = connection.start(request)
        limit_s = time.monotonic() + spec.timeout_s
        while len(answer.token_times_s) < TOKENS_BEFORE_DISCONNECT:
            if time.monotonic() > limit_s or answer.done or not connection.alive:
                result.failed += 1
                break
            await asyncio.sleep(0.001)
        connection.transport.abort()
        left_s = time.monotonic()
        while await _busy_slots(spec.slots_port):
            if time.monotonic() - left_s > SLOT_FREE_LIMIT_S:
                result.failed += 1
                break
            await asyncio.sleep(SLOT_POLL_S)
        result.freed_s.append(time.monotonic() - left_s)
    return result


async def _busy_slots(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /slots HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        raw = await asyncio.wait_for(reader.read(-1), 10)
    finally:
        writer.close()
    return raw.count(b'"is_processing":true')


async def _never_reads(spec: LoadSpec) -> LoadResult:
    """Open a stream as fast as the upstream gives, and read nothing for `timeout_s`."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, (spec.host, spec.port))
        await loop.sock_sendall(sock, _request(spec))
        await asyncio.sleep(spec.timeout_s)
        head = await asyncio.wait_for(loop.sock_recv(sock, 64), 5)
    opened = b" 200 " in head
    return LoadResult(finished=int(opened), failed=int(not opened))
