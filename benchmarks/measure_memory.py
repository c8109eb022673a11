"""Memory: 500 open streams, and a client that never reads."""

import time
from collections.abc import Sequence

from benchmarks.measure_http import excused
from benchmarks.plan import Plan
from benchmarks.process import Load, TargetFailed, rss_bytes
from benchmarks.results import Results
from benchmarks.stats import percentile
from benchmarks.target import FAKE, Target

SAMPLE_EVERY_S = 0.25
MANY_INTERVAL_S = 0.2
UNREAD_CHUNK_BYTES = 16_384


def measure_memory(targets: Sequence[Target], plan: Plan, results: Results) -> None:
    """Many open streams: the most memory over idle, tokens delivered, first byte."""
    tokens = round((plan.many_arrival_s + plan.many_hold_s) / MANY_INTERVAL_S)
    body = {"max_tokens": tokens, "stream": True, "fake": {"interval_s": MANY_INTERVAL_S}}
    if plan.many_streams != 500:
        results.notes.append(f"quick run: {plan.many_streams} open streams instead of 500")
    for target in targets:
        if FAKE not in target.endpoints:
            continue
        with excused(results, target, "many_memory", "many_delivered", "many_ttfb"):
            spec = target.endpoints[FAKE].load(
                "streams",
                body,
                count=plan.many_streams,
                arrival_s=plan.many_arrival_s,
                timeout_s=plan.many_limit_s,
            )
            pids = target.pids(FAKE)
            idle_bytes = most_bytes = rss_bytes(pids)
            load = Load(spec)
            while load.running():
                most_bytes = max(most_bytes, rss_bytes(pids))
                time.sleep(SAMPLE_EVERY_S)
            seen = load.result()
            if pids:
                results.add("many_memory", target.name, 0, most_bytes - idle_bytes)
            asked = plan.many_streams * tokens
            results.add("many_delivered", target.name, 0, seen.tokens / asked)
            if not seen.ttfb_s:
                raise TargetFailed("no stream gave a byte")
            results.add("many_ttfb", target.name, 0, percentile(seen.ttfb_s, 50))


def measure_unread(targets: Sequence[Target], plan: Plan, results: Results) -> None:
    """One client per target that never reads, all at once: this is about memory, not about time."""
    body = {
        "max_tokens": 100_000_000,
        "stream": True,
        "fake": {"interval_s": 0, "chunk_bytes": UNREAD_CHUNK_BYTES},
    }
    present = [target for target in targets if FAKE in target.measured]
    pids = {target.name: target.pids(FAKE) for target in present}
    idle = {name: rss_bytes(of) for name, of in pids.items()}
    most = dict(idle)
    loads = [
        Load(target.endpoints[FAKE].load("never_reads", body, timeout_s=plan.unread_s))
        for target in present
    ]
    while any(load.running() for load in loads):
        for name, of in pids.items():
            most[name] = max(most[name], rss_bytes(of))
        time.sleep(SAMPLE_EVERY_S)
    for target, load in zip(present, loads, strict=True):
        with excused(results, target, "unread_memory"):
            if load.result().failed:
                raise TargetFailed("the stream was not opened")
            results.add("unread_memory", target.name, 0, most[target.name] - idle[target.name])
