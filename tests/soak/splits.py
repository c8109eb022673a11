"""Machines that share a model, killed at random: each time it must come to rest, and nothing may stay behind.

    python -m tests.soak.splits --kills 100 --seed 1

Four nodes on loopback with real engines. A seeded story of SIGTERM and SIGKILL to nodes, SIGKILL to their
engines, rpc-servers and lanes, SIGSTOP for a while, and restarts with other memory or `--split`. After each,
what is served must become what the election says for who is there (`split_rules`). At the end no process of
theirs is left, each start of an engine had a reason, and an engine of somebody else beside them still runs.
Ends only what it started.
"""

import argparse
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.e2e.mesh_processes import MeshProcesses, mesh
from tests.e2e.node_process import NodeProcess, free_port
from tests.e2e.split_mesh import SHAPE, write_model
from tests.soak.split_rules import MODEL, Box, History, history, trouble, unanswered

NAMES = ("box-a", "box-b", "box-c", "box-d")
SMALL_GB, LARGE_GB = (0.08, 0.081, 0.082), 0.4
"""Two of the first hold the model together, one of the second alone."""
CONVERGE_MAX_S = 75.0
"""From a fault until all is as it should be: detection (6 s), the patience with a worker that does not follow
(45 s), a load, on a machine with much else to do."""
REST_S = 1.5
"""For so long it must stay so: what is lost is not noticed at once."""
CHILDLESS_MAX_S = 5.0
STOPPED_S = (2.0, 12.0)
"""For how long a process stays stopped."""
ENGINE_KILLS_MAX = 4
"""Of one node in its life: after six in a row its engine stays down, by design."""
PARTS = {"engine": "llama-server", "rpc-server": "rpc-server", "lane": "lane_child"}


@dataclass
class Story:
    """The run of one seed."""

    made: MeshProcesses
    model: Path
    rng: random.Random
    boxes: dict[str, Box] = field(default_factory=dict)
    ended: list[NodeProcess] = field(default_factory=list)
    engine_kills: dict[str, int] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def alive(self) -> dict[str, NodeProcess]:
        """Return the nodes that run."""
        return {n: node for n, node in self.made.nodes.items() if node.process.poll() is None}

    def say(self, text: str) -> None:
        """Note a line of the story, and print it."""
        self.told.append(text)
        print(text, flush=True)

    # --- what happens -----------------------------------------------------------------------------

    def start(self, name: str) -> str:
        """Start a node, under its home of before if it had one."""
        memory_gb = self.rng.choice((*SMALL_GB, *SMALL_GB, *SMALL_GB, LARGE_GB))
        box = Box(memory_gb, forced=self.rng.random() < 0.25)
        others = self.alive
        token = self.made.token(next(iter(others))) if others else None
        words = ("--model", str(self.model), *box.words(), *SHAPE)
        self.boxes[name] = box
        self.engine_kills[name] = 0
        self.made.start(name, *words, join=token)
        return f"start {name}: {memory_gb} GB{' --split' if box.forced else ''}"

    def strike(self) -> str:
        """Do one harm, and return what it was."""
        rng, alive = self.rng, self.alive
        name = rng.choice(sorted(alive))
        node = alive[name]
        node.children()
        kinds = ["term", "kill", "engine", "rpc-server", "lane", "stop"]
        kind = rng.choice(kinds)
        if kind in PARTS:
            return self._kill_part(kind) or self.strike()
        if kind == "stop":
            return self._stop(name, node)
        if len(alive) == 1:
            return self.strike()
        if kind == "term":
            node.process.terminate()
            node.wait_exit()
        else:
            node.kill()
        node.wait_childless(CHILDLESS_MAX_S)
        self.ended.append(node)
        return f"{kind} {name}"

    def _part(self, node: NodeProcess, kind: str) -> psutil.Process | None:
        for child in node.children():
            with suppress(psutil.NoSuchProcess, IndexError):
                argv = child.cmdline()
                where = argv[:1] if kind != "lane" else argv
                if any(PARTS[kind] in word for word in where):
                    return child
        return None

    def _kill_part(self, kind: str) -> str:
        found = {name: self._part(node, kind) for name, node in sorted(self.alive.items())}
        able = [
            name for name, part in found.items()
            if part and (kind != "engine" or self.engine_kills[name] < ENGINE_KILLS_MAX)
        ]  # fmt: skip
        if not able:
            return ""
        name = self.rng.choice(able)
        part = found[name]
        assert part is not None
        self.engine_kills[name] += kind == "engine"
        part.kill()
        return f"kill the {kind} of {name}"

    def _stop(self, name: str, node: NodeProcess) -> str:
        what = self.rng.choice(["node", "engine", "rpc-server", "lane"])
        part = psutil.Process(node.process.pid) if what == "node" else self._part(node, what)
        if part is None:
            what, part = "node", psutil.Process(node.process.pid)
        seconds = self.rng.uniform(*STOPPED_S)
        part.suspend()
        time.sleep(seconds)
        with suppress(psutil.NoSuchProcess):
            part.resume()
        return f"stop the {what} of {name} for {seconds:.0f} s"

    # --- what must follow -------------------------------------------------------------------------

    def converge(self) -> None:
        """Wait until all is as it should be. Raises AssertionError with everybody's log."""
        began_s, why, calm_s = time.monotonic(), "nothing was looked at", None
        while time.monotonic() - began_s < CONVERGE_MAX_S:
            looked_s = time.monotonic()
            for node in self.alive.values():
                node.children()
            try:
                why = trouble(self.alive, self.boxes) or unanswered(self.alive, 5.0)
            except (OSError, ValueError, KeyError) as fault:
                why = repr(fault)
            calm_s = None if why else calm_s or looked_s
            if calm_s is not None and looked_s - calm_s >= REST_S:
                self.took_s.append(calm_s - began_s)
                return
            time.sleep(0.3)
        logs = "\n\n".join(f"{n} {self.boxes[n]}:\n{node.output}" for n, node in self.alive.items())
        raise AssertionError(f"{why}, {CONVERGE_MAX_S} s after: {self.told[-3:]}\n{logs}")

    def run(self, kills: int) -> None:
        """Tell the story."""
        for name in NAMES:
            self.say(self.start(name))
        self.converge()
        for number in range(1, kills + 1):
            down = [name for name in NAMES if name not in self.alive]
            if len(down) > 2 or (down and self.rng.random() < 0.6):
                self.say(self.start(self.rng.choice(down)))
                self.converge()
            done = self.strike()
            self.converge()
            self.say(f"{number:3d} {done}: at rest after {self.took_s[-1]:.1f} s")

    def end(self) -> None:
        """End every node, and look for what it left."""
        for node in self.alive.values():
            node.children()
            node.process.terminate()
            self.ended.append(node)
        for node in self.ended:
            node.process.wait(60)
            node.wait_childless(CHILDLESS_MAX_S)


@contextmanager
def bystander(engine: Path, model: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Yield a llama-server that is no node's child."""
    argv = [str(engine / "llama-server"), "-m", str(model), "--port", str(free_port()), "-c", "256"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def soak(folder: Path, engine: Path, kills: int, seed: int) -> dict[str, History]:
    """Run a story and return each node's history. Raises AssertionError where a rule does not hold."""
    model = write_model(folder, MODEL)
    with bystander(engine, model) as beside, mesh(folder, engine) as made:
        story = Story(made, model, random.Random(seed))
        story.run(kills)
        story.end()
        assert beside.poll() is None, "the engine of somebody else was ended"
        found = {name: history(folder / name) for name in NAMES}
        for name, lines in found.items():
            assert not lines.without_reason, f"{name} started without a reason: {lines}"
            assert lines.starts <= lines.changes, f"{name}: {lines}"
        took = sorted(story.took_s)
        print(f"{kills} kills, seed {seed}: at rest after p50 {took[len(took) // 2]:.1f} s, "
              f"max {took[-1]:.1f} s; 0 orphans; bystander alive")  # fmt: skip
        for name, lines in found.items():
            print(f"  {name}: {lines.starts} engine starts, {lines.changes} changes of plan")
        return found


def main() -> None:
    """Run one story from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    engine = os.environ.get("MESH_LLM_TEST_ENGINE")  # where tests/conftest.py found it
    if not engine:
        raise SystemExit("No engine: run `make setup` first.")
    with tempfile.TemporaryDirectory() as folder:
        soak(Path(folder), Path(engine), asked.kills, asked.seed)


if __name__ == "__main__":
    main()
