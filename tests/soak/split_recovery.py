"""How long a split takes to come back after the loss of each of its parts: the rows of docs/benchmarks.md.

    python -m tests.soak.split_recovery --repeats 10

Real nodes and engines on loopback, a fresh mesh for each repeat (a worker lost twice is left out for a time).
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil

from tests.e2e.mesh_processes import MeshProcesses, mesh
from tests.e2e.split_mesh import forced_pair, rpc_process, write_model
from tests.e2e.split_recovery import (
    Recovery,
    freeze_all,
    host_killed,
    small_nodes,
    struck,
    thaw_all,
    worker_replaced,
)

Row = Callable[[MeshProcesses, Path], Recovery]


def _worker(made: MeshProcesses, model: Path, *, streaming: bool) -> Recovery:
    a, b = forced_pair(made, model)
    return struck(a, b.kill, streaming=streaming)


def _rpc_server(made: MeshProcesses, model: Path, *, frozen: bool) -> Recovery:
    a, b = forced_pair(made, model)
    part = rpc_process(b)
    return struck(a, part.suspend if frozen else part.kill, streaming=True)


def _machine(made: MeshProcesses, model: Path) -> Recovery:
    a, b = forced_pair(made, model)
    frozen: list[psutil.Process] = []
    try:
        return struck(a, lambda: frozen.extend(freeze_all(b)), streaming=True)
    finally:
        thaw_all(frozen)


def _three(made: MeshProcesses, model: Path, strike: Callable[[MeshProcesses], float]) -> Recovery:
    small_nodes(made, model, ("box-a", "box-b", "box-c"))
    return Recovery(0.0, strike(made))


ROWS: dict[str, Row] = {
    "worker killed, idle": lambda made, model: _worker(made, model, streaming=False),
    "worker killed in a stream": lambda made, model: _worker(made, model, streaming=True),
    "its rpc-server killed in a stream": lambda made, model: _rpc_server(made, model, frozen=False),
    "its rpc-server frozen in a stream": lambda made, model: _rpc_server(made, model, frozen=True),
    "its whole machine frozen in a stream": _machine,
    "host killed, another member hosts": lambda made, model: _three(made, model, host_killed),
    "worker killed, a third takes its place": lambda made, model: _three(
        made, model, worker_replaced
    ),
}


def _cell(values: list[float]) -> str:
    return f"{median(values):.2f} / {max(values):.2f}" if any(values) else ""


def main() -> None:
    """Repeat each row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    asked = parser.parse_args()
    engine = os.environ.get("MESH_LLM_TEST_ENGINE")  # where tests/conftest.py found it
    if not engine:
        raise SystemExit("No engine: run `make setup` first.")
    print(f"Seconds from the fault, p50 / max of {asked.repeats}.\n")
    print("| fault | engine ended | stream told, after that | served again |")
    print("|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "models")
        for number, (name, row) in enumerate(ROWS.items()):
            seen = []
            for repeat in range(asked.repeats):
                home = Path(folder) / f"{number}-{repeat}"
                home.mkdir()
                with mesh(home, Path(engine)) as made:
                    seen.append(row(made, model))
            streams = [s.stream_s for s in seen if s.stream_s is not None]
            print(
                f"| {name} | {_cell([s.detected_s for s in seen])} | {_cell(streams)} "
                f"| {_cell([s.serving_s for s in seen])} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
