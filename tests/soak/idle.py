"""What an idle mesh of real nodes costs: bytes on the wire and processor time of each.

`python -m tests.soak.idle` prints the rows of docs/benchmarks-gossip.md. So many whole nodes on loopback,
all linked, nobody asks anything; the bytes are those of the peer link's own counters (QUIC's included,
without IP's and UDP's headers), the processor time is the node's process, without its engine's.

A node alone spends some by itself (samples of its own load and memory); `--nodes 1` says how much, so that
the difference is the mesh's.
"""

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.mesh_processes import MeshProcesses, mesh, states
from tests.e2e.node_process import NodeProcess
from tests.fakes.fake_engine.folder import write_fake_engine

BYTES_MAX = 2_000.0
"""A second, sent by a node."""
CORE_PERCENT_MAX = 1.0
SETTLE_S = 20.0
"""After the last node joined: bodies are pulled, load figures told, engines up."""


@dataclass(frozen=True)
class Reading:
    """One node at one moment."""

    at_s: float
    cpu_s: float
    sent_bytes: float
    packets: float


def counter(node: NodeProcess, what: str) -> float:
    """Return one of the peer link's counters."""
    secret = (node.home / "run" / "secret").read_text().strip()
    text = node.text("/metrics", Authorization=f"Bearer {secret}")
    found = re.search(rf'^mesh_llm_peer_link_total{{what="{what}"}} (\S+)$', text, re.MULTILINE)
    assert found, text
    return float(found.group(1))


def read(node: NodeProcess) -> Reading:
    """Return what the node has spent so far."""
    spent = psutil.Process(node.process.pid).cpu_times()
    return Reading(
        time.monotonic(), spent.user + spent.system,
        counter(node, "bytes_sent"), counter(node, "packets_sent"),
    )  # fmt: skip


def started(made: MeshProcesses, count: int) -> None:
    """Start so many nodes and wait until each sees all others alive."""
    made.start("box-0")
    token = made.token("box-0")
    for number in range(1, count):
        made.start(f"box-{number}", join=token)
    for name, node in made.nodes.items():
        wanted = {other: "alive" for other in made.nodes if other != name}
        node.wait_for(lambda node=node, wanted=wanted: states(node) == wanted, "the mesh", 60)
    time.sleep(SETTLE_S)


def measure(count: int, duration_s: float) -> list[tuple[Reading, Reading]]:
    """Return each node's readings before and after."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = write_fake_engine(folder / "engine", sys.executable)
        made = stack.enter_context(mesh(folder, engine))
        started(made, count)
        before = [read(node) for node in made.nodes.values()]
        time.sleep(duration_s)
        return list(zip(before, map(read, made.nodes.values()), strict=True))


def rates(
    readings: list[tuple[Reading, Reading]], value: Callable[[Reading], float]
) -> list[float]:
    """Return by how much a value grew a second, for each node."""
    return [(value(b) - value(a)) / (b.at_s - a.at_s) for a, b in readings]


def main() -> int:
    """Print the rows; return 1 if one is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    readings = measure(asked.nodes, asked.seconds)
    sent = rates(readings, lambda r: r.sent_bytes)
    packets = rates(readings, lambda r: r.packets)
    cores = [100 * share for share in rates(readings, lambda r: r.cpu_s)]
    print(f"{asked.nodes} idle nodes, {asked.seconds:.0f} s")
    print(f"  sent a node: mean {statistics.fmean(sent):.0f} B/s, most {max(sent):.0f} B/s")
    print(f"  packets a node: mean {statistics.fmean(packets):.1f} a second")
    print(f"  of a core: mean {statistics.fmean(cores):.2f} %, most {max(cores):.2f} %", flush=True)
    return int(max(sent) > BYTES_MAX or statistics.fmean(cores) > CORE_PERCENT_MAX)


if __name__ == "__main__":
    sys.exit(main())
