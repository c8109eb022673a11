"""A split through the tunnel against the same rpc-servers straight: load, bytes, words, tokens, loop lag.

The host's node runs in this process, its loop's lag sampled all the while; the worker's node is another
process, and each has its lane process. Engines are real. Direct and tunnelled runs take turns.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from benchmarks.lane.node import BenchNode
from benchmarks.lane.other import other_node
from benchmarks.lane.recording import RecordingRelay, wrong_tensors
from benchmarks.lane.rows import Rows
from models_registry.demo.synthesize import synthesize
from models_registry.rpc.counters import LoadCounters
from tests.models_registry.rpc.engines import Served, llama_server, rpc_server, split_arguments

LAG_STEP_S = 0.005
TOKENS = 96
PROMPT = "the node of the mesh"
PROMPTS = (PROMPT, "open the door", "a simple question", "read and write")
TERM = 1


@dataclass
class Split:
    """Two rpc-servers, one of them the worker's, and a tunnel port that leads to it."""

    node: BenchNode
    model: Path
    scratch: Path
    own: int
    theirs: int
    port: int

    def load(self) -> LoadCounters:
        """Return what has gone through the tunnel port."""
        (port,) = self.node.lane.report.ports
        return port.load

    async def settled_load(self) -> LoadCounters:
        """Return what the load took, once the lane process has told."""
        await asyncio.sleep(1.5)
        return self.load()

    @asynccontextmanager
    async def served(self, *, tunnel: bool) -> AsyncIterator[tuple[Served, float]]:
        """Yield a ready llama-server and its load time, seconds."""
        ports = [self.own, self.port if tunnel else self.theirs]
        # As the node starts it (`models_registry.launch`): placed already, so without the engine's fitting.
        arguments = [*split_arguments(ports, "0.5,0.5"), "--fit", "off"]
        with llama_server(self.model, self.scratch / "server.log", *arguments) as server:
            if tunnel:
                self.node.lane.name_client(self.port, server.pid)
            yield server, await server.ready()
        await asyncio.sleep(0.3)  # the rpc-servers see the end and free their memory


@asynccontextmanager
async def split(model: Path, scratch: Path, *, record: bool = False) -> AsyncIterator[Split]:
    """Yield a split that is ready to be loaded; `record`: the worker's rpc-server is overheard."""
    scratch.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        own = stack.enter_context(rpc_server(scratch / "own.log"))
        theirs = stack.enter_context(rpc_server(scratch / "theirs.log"))
        if record:
            theirs = await stack.enter_async_context(RecordingRelay(theirs, scratch / "seen"))
        other = await stack.enter_async_context(other_node(scratch / "other", tcp=True))
        node = BenchNode(other.mesh, scratch / "here")
        stack.push_async_callback(node.close)
        await node.start(tcp=True)
        await node.meet(other.id, other.where)
        files, host = [str(model)], node.trust.node_id
        await other.ask(do="grant", port=theirs, host=host, term=TERM, files=files)
        port = await node.lane.open_port(other.id, theirs, TERM, files)
        yield Split(node, model, scratch, own, theirs, port)


async def measure_load(rows: Rows, scratch: Path, rounds: int) -> None:
    """Measure how a 1 GB model loads, of which the worker has the file."""
    model = await asyncio.to_thread(synthesize, scratch / "big1g.gguf", "big1g")
    with llama_server(model, scratch / "solo.log") as solo:
        await solo.ready()
        expected = [await solo.answer(prompt) for prompt in PROMPTS]
    lag, same, warm, direct = LoopLag(), True, [], []
    async with split(model, scratch / "load") as made:
        with lag:
            async with made.served(tunnel=True) as (server, cold_s):
                load = await made.settled_load()
                words = [await server.answer(prompt) for prompt in PROMPTS]
        same = words == expected
        await asyncio.sleep(5)  # the rest of the files is hashed in the background
        for number in range(2 * rounds):
            for way in (False, True) if number % 2 else (True, False):
                with lag if way else contextlib.nullcontext():
                    async with made.served(tunnel=way) as (server, took_s):
                        (warm if way else direct).append(took_s)
                        same = same and await server.answer(PROMPT) == expected[0]
    share = load.weights_saved_bytes + load.weights_sent_bytes
    ratio = median(w / d for w, d in zip(warm, direct, strict=True))
    rows.shown("1 GB model, straight to both rpc-servers: load", median(direct), "s")
    rows.shown("through the tunnel: load", median(warm), "s")
    rows.at_most("load, tunnel / straight", ratio, 1.5, "x")
    rows.shown("through the tunnel the first time, digests computed on the way", cold_s, "s")
    rows.shown("worker's share of the weights", share / 1e6, "MB")
    rows.at_most("bytes of weights over the lane", 100 * load.weights_sent_bytes / share, 0.2, "%")
    rows.at_most("all bytes of the load over the lane", 100 * load.sent_bytes / share, 0.2, "%")
    rows.holds(f"words of {len(PROMPTS)} prompts as solo's, and of one at every load", same)
    rows.at_most("the host node's loop lag during loads, p99", lag.p99_ms, 20, "ms")
    rows.shown("the host node's loop lag during loads, longest", max(lag.seen_ms), "ms")
    async with split(model, scratch / "recorded", record=True) as made:
        async with made.served(tunnel=True):
            pass
        wrong, checked = wrong_tensors(model, scratch / "recorded/seen")
    rows.shown("tensors overheard at the worker's rpc-server", checked, "")
    rows.holds("the SHA-256 of each is that of the file's", not wrong and checked > 50)


async def measure_tokens(rows: Rows, scratch: Path, rounds: int) -> None:
    """Measure tokens a second on the 200 MB model, and on the tiny one."""
    for preset, bound in (("big200", 0.85), ("tiny", None)):
        model = await asyncio.to_thread(synthesize, scratch / f"{preset}.gguf", preset)
        async with split(model, scratch / f"tokens-{preset}") as made:
            direct, tunnel = [], []
            for number in range(2 * rounds):
                # Each way goes first as often as the other: the machine is not the same all the time.
                for way in (False, True) if number % 2 else (True, False):
                    async with made.served(tunnel=way) as (server, _):
                        await server.answer(PROMPT, 8)
                        got = await asyncio.to_thread(server.complete, PROMPT, TOKENS)
                        rate = got["timings"]["predicted_per_second"]
                        (tunnel if way else direct).append(rate)
        rows.shown(f"{preset}: tokens/s straight", median(direct), "")
        rows.shown(f"{preset}: tokens/s through the tunnel", median(tunnel), "")
        ratio = median(t / d for t, d in zip(tunnel, direct, strict=True))
        if bound is None:
            rows.shown(f"{preset}: tunnel / straight", ratio, "x")
        else:
            rows.at_least(f"{preset}: tunnel / straight", ratio, bound, "x")


class LoopLag:
    """Samples how late this loop is, while entered."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seen_ms: list[float] = []
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._task = asyncio.create_task(self._sample())

    def __exit__(self, *_: object) -> None:
        assert self._task
        self._task.cancel()

    async def _sample(self) -> None:
        while True:
            began_s = self._clock()
            await asyncio.sleep(LAG_STEP_S)
            self.seen_ms.append((self._clock() - began_s - LAG_STEP_S) * 1e3)

    @property
    def p99_ms(self) -> float:
        """The lag that 99 of 100 samples do not pass."""
        return quantiles(self.seen_ms, n=100)[-1]
