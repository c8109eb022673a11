"""`python -m tests.sim --seed N` replays one seed with its stories; `--swarm N` runs N seeds; `--table`
measures the simulated rows of issue "The mesh itself"."""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.sim.measure import print_table
from tests.sim.serving_swarm import ServingSwarm
from tests.sim.split_swarm import SplitSwarm
from tests.sim.wide_swarm import WIDE_FROM, swarm_of

Kind = Callable[[int], Any]
"""Makes the swarm of a seed: `swarm_of` of membership alone, `ServingSwarm` of whole nodes."""


KINDS: dict[str, Kind] = {"serving": ServingSwarm, "split": SplitSwarm}


def replay(kind: Kind, seed: int) -> int:
    swarm = kind(seed)
    findings = swarm.run()
    print(swarm.report())
    return 1 if findings else 0


def swarm(kind: Kind, first: int, count: int) -> int:
    failed = 0
    started = time.perf_counter()
    for seed in range(first, first + count):
        findings = kind(seed).run()
        if findings:
            failed += 1
            of = next((f" OF={name}" for name, one in KINDS.items() if one is kind), "")
            more = f"(+{len(findings) - 1})"
            print(f"seed {seed}: {findings[0]} {more}; replay: make sim SEED={seed}{of}")
    print(f"{count} seeds, {failed} with findings, {time.perf_counter() - started:.1f} s")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed and print every node's story")
    parser.add_argument("--swarm", type=int, default=30, help="how many seeds to run of each kind")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--table", action="store_true", help="measure the simulated figures")
    parser.add_argument(
        "--full", action="store_true", help="with --table: the full counts (minutes)"
    )
    parser.add_argument(
        "--only", default="", help="with --table: the rows whose measure has this name"
    )
    parser.add_argument(
        "--of", choices=("members", *KINDS), default="members",
        help="membership alone, whole nodes that elect, assign and serve, or those that split",
    )  # fmt: skip
    args = parser.parse_args()
    kind: Kind = KINDS.get(args.of, swarm_of)
    if args.table:
        return print_table(args.full, args.only)
    if args.seed is not None:
        return replay(kind, args.seed)
    failed = swarm(kind, args.first, args.swarm)
    if kind is swarm_of:
        failed |= swarm(kind, WIDE_FROM + args.first, args.swarm)
    return failed


if __name__ == "__main__":
    sys.exit(main())
