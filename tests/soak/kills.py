"""Kills of real nodes, counted: how soon each survivor knows, and whether anybody dies by mistake.

`python -m tests.soak.kills --kills 30` prints the rows of docs/benchmarks-gossip.md. Three nodes on
loopback; the victim is killed (its port refuses), frozen (it falls silent) or leaves, then comes back
with its key. One round is run with a survivor's machine busy. Ends only what it started.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import quantiles

from tests.e2e.mesh_processes import MeshProcesses, freeze, mesh, seconds_until, states, thaw
from tests.e2e.node_process import NodeProcess
from tests.fakes.fake_engine.folder import write_fake_engine

VICTIM = "box-c"
LATE = {"late", "suspect", "dead"}


@dataclass
class Seen:
    """Seconds from the fault until each survivor knew, over all kills."""

    ranked_last: list[float] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    false_deaths: int = 0


def percentiles(values: list[float]) -> str:
    """Return p50, p99 and the largest as text."""
    if len(values) < 2:
        return "-"
    cuts = quantiles(values, n=100, method="inclusive")
    return f"p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, max {max(values):.2f} s"


def survivors(made: MeshProcesses) -> dict[str, NodeProcess]:
    """Return the nodes that stay."""
    return {name: node for name, node in made.nodes.items() if name != VICTIM}


def sees(node: NodeProcess, wanted: set[str]) -> bool:
    """Return whether the node sees the victim in one of these states."""
    return states(node).get(VICTIM) in wanted


def until_all_see(made: MeshProcesses, wanted: set[str], max_s: float = 30.0) -> list[float]:
    """Return when each survivor saw the victim so, in seconds from now."""
    conditions: dict[str, Callable[[], bool]] = {
        name: partial(sees, node, wanted) for name, node in survivors(made).items()
    }
    try:
        return list(seconds_until(conditions, max_s).values())
    except AssertionError as late:
        stories = [f"{n}: {states(node)}\n{node.output[-1500:]}" for n, node in made.nodes.items()]
        raise AssertionError(f"{late}\n" + "\n".join(stories)) from None


def until_late_and_dead(made: MeshProcesses, seen: Seen) -> None:
    """Note when each survivor ranked the victim last, and when it held it dead."""
    conditions: dict[str, Callable[[], bool]] = {}
    for name, node in survivors(made).items():
        conditions[f"late {name}"] = partial(sees, node, LATE)
        conditions[f"dead {name}"] = partial(sees, node, {"dead"})
    found = seconds_until(conditions, 30.0)
    seen.ranked_last += [s for key, s in found.items() if key.startswith("late")]
    seen.gone += [s for key, s in found.items() if key.startswith("dead")]


def run(how: str, kills: int, *, busy: bool = False) -> Seen:
    """Return what was seen over so many faults of one kind."""
    seen = Seen()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = write_fake_engine(folder / "engine", sys.executable)
        made = stack.enter_context(mesh(folder, engine))
        made.start("box-a")
        token = made.token("box-a")
        for name in ("box-b", VICTIM):
            made.start(name, join=token)
        until_all_see(made, {"alive"})
        loads = [_busy() for _ in range(2)] if busy else []
        try:
            for _ in range(kills):
                _one(made, how, seen)
        finally:
            for load in loads:
                load.kill()
                load.wait()
        for node in survivors(made).values():
            dead = node.output.count("was declared dead")
            seen.false_deaths += max(0, dead - (0 if how == "leave" else kills))
            others = [state for name, state in states(node).items() if name != VICTIM]
            assert others == ["alive"], others
    return seen


def _one(made: MeshProcesses, how: str, seen: Seen) -> None:
    victim = made.nodes[VICTIM]
    match how:
        case "kill":
            victim.kill()
            until_late_and_dead(made, seen)
        case "silent":
            freeze(victim)
            until_late_and_dead(made, seen)
            thaw(victim)
        case "leave":
            victim.process.terminate()
            seen.gone += until_all_see(made, {"left"})
            victim.wait_exit()
    if how == "silent":
        until_all_see(made, {"alive"}, 60.0)
    else:
        again = made.start(VICTIM, until="started")
        again.wait_for(lambda: again.get("/health")[0] in (200, 503), "the API")
        seen.back += until_all_see(made, {"alive"}, 60.0)
    time.sleep(1.0)


def _busy() -> "subprocess.Popen[bytes]":
    """Return a process that takes a whole core: a survivor has to share with it."""
    return subprocess.Popen([sys.executable, "-c", "while True: pass"])


def main() -> None:
    """Run every kind and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--only", choices=["kill", "silent", "leave", "busy"])
    asked = parser.parse_args()
    kinds = {"kill": ("kill", False), "silent": ("silent", False), "leave": ("leave", False),
             "busy": ("kill", True)}  # fmt: skip
    for kind, (how, busy) in kinds.items():
        if asked.only in (None, kind):
            seen = run(how, asked.kills, busy=busy)
            print(f"{kind}: {asked.kills} times, 3 nodes")
            print(f"  ranked last: {percentiles(seen.ranked_last)}")
            print(f"  gone:        {percentiles(seen.gone)}")
            print(f"  back:        {percentiles(seen.back)} after the API's port opened")
            print(f"  false deaths: {seen.false_deaths}", flush=True)


if __name__ == "__main__":
    main()
