"""`python -m tests.fuzz --frames N [--seed S]`: prints what was tried; exits 1 on any finding."""

import argparse
import asyncio
import secrets
import sys

from tests.fuzz.run import run


def main() -> int:
    """Return 0 when nothing was accepted and nothing grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    outcome = asyncio.run(run(arguments.frames, seed))
    print(f"seed {seed}: {'good' if outcome.good else 'FOUND SOMETHING'}")
    for name, number in sorted(outcome.tried.items()):
        print(f"  {name:12} {number:>9} tried, {outcome.accepted[name]} accepted")
    print(f"  grown {outcome.grown_bytes / 1e6:.1f} MB, at most {outcome.half_open_max} half-open")
    print(f"  left over at the end: {outcome.left_over}")
    print("  " + ", ".join(f"{k} {v}" for k, v in outcome.counters.items() if v))
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
