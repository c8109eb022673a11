"""`python -m benchmarks.lane`: measure the lane and the split, print one table."""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import uvloop

from benchmarks.lane.measure_lane import measure_files, measure_raw
from benchmarks.lane.measure_split import measure_load, measure_tokens
from benchmarks.lane.rows import Rows
from benchmarks.machine import describe_machine

PARTS = ("raw", "files", "load", "tokens")


async def _measure(parts: list[str], scratch: Path, rounds: int, rows: Rows) -> None:
    if "raw" in parts:
        await measure_raw(rows, rounds)
    if "files" in parts:
        await measure_files(rows, scratch)
    if "load" in parts:
        await measure_load(rows, scratch, rounds)
    if "tokens" in parts:
        await measure_tokens(rows, scratch, rounds)


def main() -> int:
    """Return 0 when every figure holds, 1 when one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lane", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    home = Path(os.environ.get("MESH_LLM_HOME") or "~/.mesh-llm").expanduser()
    os.environ.setdefault("MESH_LLM_TEST_ENGINE", str(home / "engine"))
    facts = ", ".join(f"{name}: {value}" for name, value in describe_machine().items())
    print(f"{facts}\n\n| figure | measured | bound | |\n|---|---|---|---|", flush=True)
    rows = Rows()
    with (
        tempfile.TemporaryDirectory(prefix="mesh-lane-") as scratch,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_measure(options.only.split(","), Path(scratch), options.rounds, rows))
    print(f"\n{rows.short} fall short")
    return 1 if rows.short else 0


if __name__ == "__main__":
    sys.exit(main())
