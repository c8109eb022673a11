"""The lane by itself: bytes a second and a small exchange over TCP, and over the QUIC fallback."""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

from benchmarks.lane.node import LOOPBACK, BenchNode, mesh_of, new_mesh
from benchmarks.lane.other import Other, other_node
from benchmarks.lane.raw_peer import no_quic
from benchmarks.lane.rows import Rows
from benchmarks.process import REPO
from nodes.mesh.ids import NodeId
from nodes.runtime import identity
from nodes.runtime.lane.endpoints import LaneEndpoint
from nodes.runtime.lane.lane import Lane
from nodes.runtime.trust import Trust
from tests.models_registry.rpc.model_file import tensors, write_model

BULK_BYTES = 1 << 30
EXCHANGE_BYTES = 16 << 10
EXCHANGES = 2000
QUIC_FILE_BYTES = 48 << 20
LANE_FILE_BYTES = 400 << 20


@asynccontextmanager
async def raw_lane() -> AsyncIterator[tuple[Lane, NodeId]]:
    """Yield a lane here and the id of one in another process."""
    mesh = new_mesh()
    peer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.lane.raw_peer", mesh, stdin=PIPE, stdout=PIPE, cwd=REPO
    )
    assert peer.stdout
    who, port = (await peer.stdout.readline()).decode().split()
    lane = Lane(Trust(identity.ephemeral(), mesh_of(mesh)), {}, no_quic)  # type: ignore[arg-type]
    lane.endpoints.set(NodeId(who), LaneEndpoint(LOOPBACK, int(port)))
    try:
        yield lane, NodeId(who)
    finally:
        await lane.close()
        peer.kill()
        await peer.wait()


async def measure_raw(rows: Rows, rounds: int) -> None:
    """Measure bulk and small exchanges between two lanes in two processes."""
    rates, times_ms = [], []
    async with raw_lane() as (lane, peer):
        for _ in range(rounds):
            tunnel = await lane.open(peer, "sink", b"")
            block, began_s = os.urandom(1 << 20), time.perf_counter()
            for _ in range(BULK_BYTES >> 20):
                await tunnel.write(block)
            tunnel.end()
            answer = await tunnel.read()
            assert isinstance(answer, bytes)
            assert int.from_bytes(answer) == BULK_BYTES
            rates.append(BULK_BYTES / (time.perf_counter() - began_s) / 1e6)
            assert await tunnel.read() is None
        tunnel = await lane.open(peer, "echo", b"")
        block = os.urandom(EXCHANGE_BYTES)
        for _ in range(EXCHANGES):
            began_s, got = time.perf_counter(), 0
            await tunnel.write(block)
            while got < EXCHANGE_BYTES:
                part = await tunnel.read()
                assert isinstance(part, bytes)
                got += len(part)
            times_ms.append((time.perf_counter() - began_s) * 1e3)
    p99_ms = quantiles(times_ms, n=100)[-1]
    rows.at_least("bulk lane, loopback, one tunnel", median(rates), 200, "MB/s")
    rows.at_most("16 KB exchange over the lane, p50", median(times_ms), 0.6, "ms")
    rows.shown("16 KB exchange over the lane, p99", p99_ms, "ms")


async def measure_files(rows: Rows, scratch: Path) -> None:
    """Measure a model fetched from a peer by the lane, and by the QUIC fallback."""
    for via, size in (("tcp", LANE_FILE_BYTES), ("quic", QUIC_FILE_BYTES)):
        model = write_model(scratch / f"{via}-owner/m.gguf", tensors(*[size // 8] * 8))
        async with other_node(scratch / f"{via}-other", tcp=via == "tcp") as other:
            rate = await _fetch(other, scratch / f"{via}-here", model)
        if via == "tcp":
            rows.shown("a model file from a peer over the lane", rate, "MB/s")
        else:
            rows.at_least("QUIC fallback (a model file through both nodes' loops)", rate, 5, "MB/s")


async def _fetch(other: Other, folder: Path, model: Path) -> float:
    node = BenchNode(other.mesh, folder)
    try:
        await node.start(tcp=False)
        await node.meet(other.id, other.where)
        await other.ask(do="share", models={"m": [str(model)]})
        target = folder / "models"
        target.mkdir()
        began_s = time.perf_counter()
        (path,) = await node.lane.fetch(other.id, "m", target, lambda at: None)
        return path.stat().st_size / (time.perf_counter() - began_s) / 1e6
    finally:
        await node.close()
