"""Rounds of short loads, the targets in turn within each: first byte, rate, streams, disconnects."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.loadgen.spec import LoadResult
from benchmarks.plan import Plan
from benchmarks.process import Load, TargetFailed, cpu_s, run_load
from benchmarks.results import Results
from benchmarks.stats import percentile
from benchmarks.target import DIRECT, FAKE, LITELLM, REAL, Ground, Target
from benchmarks.wrk import requests_per_s

OWN_CPU_LIMIT = 0.7
"""Of a core. Where the load generator itself was busier, a note says so."""


def rounds(targets: Sequence[Target], kind: str, count: int) -> Iterator[tuple[int, Target]]:
    """Yield A B C D, then B C D A, ...: each round every target once, none always first."""
    present = [target for target in targets if kind in target.endpoints]
    for number in range(count):
        shift = number % max(1, len(present))
        for target in present[shift:] + present[:shift]:
            yield number, target


@contextmanager
def excused(results: Results, target: Target, *keys: str) -> Iterator[None]:
    """Turn a failed load into the reason that the table shows."""
    try:
        yield
    except TargetFailed as error:
        for key in keys:
            results.excuse(key, target.name, str(error))


def measure_ttfb(targets: Sequence[Target], plan: Plan, results: Results) -> None:
    """First byte at one client, streamed and not; each target's percentile minus direct's of the round."""
    for streamed, prefix in ((True, "ttfb"), (False, "ttfb_whole")):
        _first_byte(targets, FAKE, plan, results, streamed, prefix, plan.rounds)


def measure_real(targets: Sequence[Target], plan: Plan, results: Results, ground: Ground) -> None:
    """The same on the real llama-server, and its rate."""
    _first_byte(targets, REAL, plan, results, True, "real_ttfb", plan.real_rounds)
    for number, target in rounds(targets, REAL, plan.real_rounds):
        with excused(results, target, "real_rps"):
            rate = requests_per_s(target.endpoints[REAL], 16, plan.rps_s, ground.scratch)
            results.add("real_rps", target.name, number, rate)


def _first_byte(
    targets: Sequence[Target],
    kind: str,
    plan: Plan,
    results: Results,
    streamed: bool,
    prefix: str,
    count: int,
) -> None:
    body = {"max_tokens": 4, "temperature": 0, "stream": streamed}
    for number, target in rounds(targets, kind, count):
        with excused(results, target, f"{prefix}_p50", f"{prefix}_p99"):
            requests = plan.slow_sequence_count if target.name == LITELLM else plan.sequence_count
            spec = target.endpoints[kind].load("sequence", body, count=requests, warm_up=5)
            seen = _whole(run_load(spec))
            for percent in (50, 99):
                key = f"{prefix}_p{percent}"
                results.add(key, target.name, number, percentile(seen.ttfb_s, percent))
    for percent in (50, 99):
        subtract_direct(results, f"{prefix}_p{percent}")


def measure_rps(targets: Sequence[Target], plan: Plan, results: Results, ground: Ground) -> None:
    """Requests per second at 16 clients."""
    for number, target in rounds(targets, FAKE, plan.rounds):
        with excused(results, target, "rps"):
            rate = requests_per_s(target.endpoints[FAKE], 4, plan.rps_s, ground.scratch)
            results.add("rps", target.name, number, rate)


def measure_streams(targets: Sequence[Target], plan: Plan, results: Results) -> None:
    """CPU per token and gaps between tokens at 64 streams."""
    body = {
        "max_tokens": plan.stream_tokens,
        "stream": True,
        "fake": {"interval_s": plan.stream_token_interval_s},
    }
    for number, target in rounds(targets, FAKE, plan.rounds):
        with excused(results, target, "cpu_token", "gap_p50", "gap_p99"):
            spec = target.endpoints[FAKE].load("streams", body, count=64, arrival_s=0.2)
            pids = target.pids(FAKE)
            before_s = cpu_s(pids)
            seen = _whole(Load(spec).result())
            if pids:
                results.add(
                    "cpu_token", target.name, number, (cpu_s(pids) - before_s) / seen.tokens
                )
            for percent in (50, 99):
                results.add(
                    f"gap_p{percent}", target.name, number, percentile(seen.gaps_s, percent)
                )
            if seen.own_cpu_s > OWN_CPU_LIMIT * seen.wall_s:
                note = (
                    f"the load generator itself was busy in a round of {target.name}'s 64 streams"
                )
                if note not in results.notes:
                    results.notes.append(note)
    for percent in (50, 99):
        subtract_direct(results, f"gap_p{percent}")


def measure_disconnect(targets: Sequence[Target], plan: Plan, results: Results) -> None:
    """From the client's disconnect until the engine behind says that its slot is idle."""
    for kind, prefix in ((FAKE, "freed"), (REAL, "real_freed")):
        body = {
            "max_tokens": 1500,
            "stream": True,
            "ignore_eos": True,
            "fake": {"interval_s": 0.02},
        }
        for number, target in rounds(targets, kind, 1):
            with excused(results, target, f"{prefix}_p50", f"{prefix}_p99"):
                endpoint = target.endpoints[kind]
                spec = endpoint.load(
                    "disconnect", body, count=plan.disconnects, slots_port=endpoint.engine_port
                )
                seen = run_load(spec)
                if seen.failed:
                    reason = (
                        f"{seen.failed} of {plan.disconnects} ended early or never freed the slot"
                    )
                    raise TargetFailed(reason)
                for percent in (50, 99):
                    value = percentile(seen.freed_s, percent)
                    results.add(f"{prefix}_p{percent}", target.name, number, value)


def subtract_direct(results: Results, key: str) -> None:
    """Make every other target's value of a round what it adds to direct's value of that round."""
    base = results.values(key, DIRECT)
    for target, values in results.samples.get(key, {}).items():
        if target != DIRECT:
            for number in list(values):
                if number in base:
                    values[number] -= base[number]
                else:
                    del values[number]


def _whole(seen: LoadResult) -> LoadResult:
    if seen.failed:
        raise TargetFailed(f"{seen.failed} of {seen.failed + seen.finished} answers failed")
    return seen
