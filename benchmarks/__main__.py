"""`python -m benchmarks`: run the paired measurements and print (or write) the table."""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import (
    measure_hop,
    measure_http,
    measure_memory,
    measure_mesh,
    measure_node,
    measure_setup,
    table,
)
from benchmarks.figures import GROUPS
from benchmarks.ground import lay_ground
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.process import REPO, TargetFailed
from benchmarks.results import Results
from benchmarks.target import LITELLM, NGINX, OURS, Builder, Ground, Target
from benchmarks.target_direct import start_direct
from benchmarks.target_litellm import start_litellm
from benchmarks.target_nginx import start_nginx
from benchmarks.target_node import start_node

PAGE = REPO / "docs" / "benchmarks.md"
OUT = REPO / "benchmarks" / "out"
NEEDS_TARGETS = frozenset(("ttfb", "rps", "streams", "memory", "unread", "disconnect", "real"))
PEERS: dict[str, Builder] = {OURS: start_node, NGINX: start_nginx, LITELLM: start_litellm}


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when the run ended, whatever it found; 2 on wrong arguments."""
    options = _options(argv)
    plan = QUICK if options.quick else FULL
    if options.rounds:
        plan = replace(plan, rounds=options.rounds)
    groups = frozenset(options.only or GROUPS) - (frozenset() if options.setup else {"setup"})
    groups |= {"setup"} if options.setup else set()
    results = Results(machine=describe_machine())
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as scratch:
        ground = lay_ground(Path(scratch), options.model)
        results.versions = describe_versions(ground.real_engine)
        _measure(plan, results, ground, groups)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    words = [word.rpartition("/")[2] for word in (sys.argv[1:] if argv is None else argv)]
    command = " ".join(["python -m benchmarks", *words])
    text = table.render(results, when, command, groups)
    print(f"\n{text}\n")
    ok, short, unknown = table.tally(results, groups)
    print(
        f"{ok} ok, {short} fall short, {unknown} not measured; {time.monotonic() - began_s:.0f} s"
    )
    OUT.mkdir(exist_ok=True)
    raw = OUT / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    raw.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    if options.write:
        PAGE.write_text(table.replace_generated(PAGE.read_text("utf-8"), text), encoding="utf-8")
        print(f"written to {PAGE.relative_to(REPO)}; raw values in {raw.relative_to(REPO)}")
    return 0


def _measure(plan: Plan, results: Results, ground: Ground, groups: frozenset[str]) -> None:
    if groups & NEEDS_TARGETS:
        with contextlib.ExitStack() as stack:
            targets = _start_all(stack, results, ground)
            steps: dict[str, Callable[[], None]] = {
                "ttfb": lambda: measure_http.measure_ttfb(targets, plan, results),
                "rps": lambda: measure_http.measure_rps(targets, plan, results, ground),
                "streams": lambda: measure_http.measure_streams(targets, plan, results),
                "disconnect": lambda: measure_http.measure_disconnect(targets, plan, results),
                "unread": lambda: measure_memory.measure_unread(targets, plan, results),
                "memory": lambda: measure_memory.measure_memory(targets, plan, results),
                "real": lambda: measure_http.measure_real(targets, plan, results, ground),
            }
            _run(steps, groups)
    alone: dict[str, Callable[[], None]] = {
        "hop": lambda: measure_hop.measure_hop(plan, results, ground),
        "mesh": lambda: measure_mesh.measure_mesh(plan, results, ground),
        "stability": lambda: measure_mesh.measure_stability(plan, results, ground),
        "start": lambda: measure_node.measure_start(plan, results, ground),
        "idle": lambda: measure_node.measure_idle(plan, results, ground),
        "setup": lambda: measure_setup.measure_setup(results, ground.scratch),
    }
    _run(alone, groups)


def _run(steps: dict[str, Callable[[], None]], groups: frozenset[str]) -> None:
    for name, step in steps.items():
        if name in groups:
            began_s = time.monotonic()
            print(f"{name} ...", end=" ", flush=True)
            step()
            print(f"{time.monotonic() - began_s:.0f} s", flush=True)


def _start_all(stack: contextlib.ExitStack, results: Results, ground: Ground) -> list[Target]:
    direct = start_direct(ground)
    stack.callback(direct.close)
    targets = [direct]
    if ground.absent_real:
        results.notes.append(f"nothing with the real engine: {ground.absent_real}")
    for name, build in PEERS.items():
        print(f"starting {name} ...", flush=True)
        try:
            target = build(ground, direct.endpoints)
        except TargetFailed as error:
            results.excuse("", name, str(error))
            continue
        stack.callback(target.close)
        targets.append(target)
        results.versions[name] = target.version
    return targets


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 90 s: small loads, two rounds")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of the paired figures")
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/benchmarks.md"
    )
    parser.add_argument("--setup", action="store_true", help="also time `make setup` in a clone")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help=f"some of: {', '.join(GROUPS)}"
    )
    parser.add_argument("--model", type=Path, help="for the real engine, instead of the demo model")
    options = parser.parse_args(argv)
    unknown = set(options.only or ()) - set(GROUPS)
    if unknown:
        parser.error(
            f"--only does not know {', '.join(sorted(unknown))}; it knows {', '.join(GROUPS)}"
        )
    return options


if __name__ == "__main__":
    sys.exit(main())
