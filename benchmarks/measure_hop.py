"""The hop: a request through the peer link to another node's engine, against the same node asked itself.

`local` is the host's own API, `hop` the client's before it. What the hop adds is hop minus local; gaps are
counted against the engine itself. CPU is that of both ends, without the engine.
"""

import time

from benchmarks.hop_mesh import HopMesh, HopNode
from benchmarks.loadgen.spec import LoadResult
from benchmarks.plan import Plan
from benchmarks.process import Load, TargetFailed, cpu_s, rss_bytes, run_load
from benchmarks.results import Results
from benchmarks.stats import median, percentile
from benchmarks.target import OURS, Endpoint, Ground

KEYS = (
    "hop_ttfb_p50", "hop_ttfb_p99", "hop_delivered_50", "hop_gap_p99_50", "hop_cpu_50",
    "hop_delivered_20", "hop_gap_p99_20", "hop_cpu_20", "hop_freed_p99", "hop_unread_memory",
)  # fmt: skip
MANY_KEYS = ("hop_many_delivered", "hop_many_ttfb", "hop_many_memory")
STREAMS = 64
INTERVALS_S = {50: 0.05, 20: 0.02}
STREAM_S = 5.0
"""How long the streams of one round run."""
MANY_INTERVAL_S = 0.2
SAMPLE_EVERY_S = 0.25
UNREAD_CHUNK_BYTES = 16_384


def measure_hop(plan: Plan, results: Results, ground: Ground) -> None:
    """All of it: one host first, then two."""
    mesh = HopMesh(ground)
    left = [*KEYS, *MANY_KEYS]
    try:
        host = mesh.add_host()
        entry = mesh.entry()
        _first_byte(plan, results, host.endpoint, entry.endpoint)
        for name in INTERVALS_S:
            _streams(plan, results, name, mesh.engine(), host, entry)
        _freed(plan, results, entry.endpoint)
        _unread(plan, results, host, entry)
        left = list(MANY_KEYS)
        mesh.add_host()
        _many(plan, results, mesh, mesh.entry())
    except TargetFailed as error:
        for key in left:
            results.excuse(key, OURS, str(error))
    finally:
        mesh.close()


def _first_byte(plan: Plan, results: Results, local: Endpoint, hop: Endpoint) -> None:
    body = {"max_tokens": 4, "stream": True}
    for number in range(plan.rounds):
        ways = (local, hop) if number % 2 else (hop, local)
        seen = {
            way.port: _whole(
                run_load(way.load("sequence", body, count=plan.sequence_count, warm_up=5))
            )
            for way in ways
        }
        for percent in (50, 99):
            added = percentile(seen[hop.port].ttfb_s, percent)
            added -= percentile(seen[local.port].ttfb_s, percent)
            results.add(f"hop_ttfb_p{percent}", OURS, number, added)


def _streams(
    plan: Plan, results: Results, name: int, engine: Endpoint, host: HopNode, entry: HopNode
) -> None:
    """Sixty-four streams of one token per `name` milliseconds."""
    interval_s = INTERVALS_S[name]
    tokens = round(STREAM_S / interval_s)
    body = {"max_tokens": tokens, "stream": True, "fake": {"interval_s": interval_s}}
    for number in range(plan.real_rounds):
        direct = Load(engine.load("streams", body, count=STREAMS, arrival_s=0.2)).result()
        pids = [*host.pids(), *entry.pids()]
        before_s = cpu_s(pids)
        seen = Load(entry.endpoint.load("streams", body, count=STREAMS, arrival_s=0.2)).result()
        spent_s = cpu_s(pids) - before_s
        results.add(f"hop_delivered_{name}", OURS, number, seen.tokens / (STREAMS * tokens))
        results.add(f"hop_cpu_{name}", OURS, number, spent_s / max(1, seen.tokens))
        added_s = percentile(seen.gaps_s, 99) - percentile(direct.gaps_s, 99)
        results.add(f"hop_gap_p99_{name}", OURS, number, added_s)


def _freed(plan: Plan, results: Results, hop: Endpoint) -> None:
    body = {"max_tokens": 1500, "stream": True, "fake": {"interval_s": 0.02}}
    spec = hop.load("disconnect", body, count=plan.disconnects, slots_port=hop.engine_port)
    seen = run_load(spec)
    if seen.failed:
        raise TargetFailed(f"{seen.failed} of {plan.disconnects} never freed the slot")
    results.add("hop_freed_p99", OURS, 0, percentile(seen.freed_s, 99))


def _unread(plan: Plan, results: Results, host: HopNode, entry: HopNode) -> None:
    """Memory of both nodes together while one client never reads an endless stream."""
    endless = {"interval_s": 0, "chunk_bytes": UNREAD_CHUNK_BYTES}
    body = {"max_tokens": 100_000_000, "stream": True, "fake": endless}
    load = entry.endpoint.load("never_reads", body, timeout_s=plan.unread_s / 2)
    _, grown = _watched(Load(load), [*host.pids(), *entry.pids()])
    results.add("hop_unread_memory", OURS, 0, grown)


def _many(plan: Plan, results: Results, mesh: HopMesh, entry: HopNode) -> None:
    """Many open streams through one node to two hosts."""
    tokens = round((plan.many_arrival_s + plan.many_hold_s) / MANY_INTERVAL_S)
    body = {"max_tokens": tokens, "stream": True, "fake": {"interval_s": MANY_INTERVAL_S}}
    spec = entry.endpoint.load(
        "streams",
        body,
        count=plan.many_streams,
        arrival_s=plan.many_arrival_s,
        timeout_s=plan.many_limit_s,
    )
    pids = [pid for node in (*mesh.hosts, entry) for pid in node.pids()]
    seen, grown = _watched(Load(spec), pids)
    results.add("hop_many_memory", OURS, 0, grown)
    results.add("hop_many_delivered", OURS, 0, seen.tokens / (plan.many_streams * tokens))
    results.add("hop_many_ttfb", OURS, 0, median(seen.ttfb_s))


def _watched(load: Load, pids: list[int]) -> tuple[LoadResult, int]:
    """Return what a load saw, and by how much the processes grew meanwhile."""
    idle_bytes = most_bytes = rss_bytes(pids)
    while load.running():
        most_bytes = max(most_bytes, rss_bytes(pids))
        time.sleep(SAMPLE_EVERY_S)
    return load.result(), most_bytes - idle_bytes


def _whole(seen: LoadResult) -> LoadResult:
    if seen.failed:
        raise TargetFailed(f"{seen.failed} of {seen.failed + seen.finished} answers failed")
    return seen
