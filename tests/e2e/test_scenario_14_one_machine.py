"""Scenario 14 as it stands: a host, and a worker with an ephemeral key under the same HOME; then kill -9."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.node_process import NodeProcess, free_port
from tests.e2e.split_mesh import (
    BACK_MAX_S,
    LAYERS,
    LOAD_MAX_S,
    SHAPE,
    answer,
    engine_starts,
    layout,
    wait_parts,
    write_model,
)

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_scenario_14_one_machine(stack: ExitStack, tmp_path: Path, engine_dir: Path) -> None:
    folder = tmp_path / "models"
    write_model(folder, "Qwen2.5-3B")
    home = tmp_path / "home"
    words = ("--model", "Qwen2.5-3B", "--models-dir", str(folder), "--split", *SHAPE)
    host = stack.enter_context(NodeProcess(home, *words, "--max-vram", "0.98", engine=engine_dir))
    alone = answer(host)
    assert host.status()["role"] == "host"
    worker = stack.enter_context(
        NodeProcess(
            home, *words, "--max-vram", "0.1", "--join", host.status()["token"],
            "--console", str(free_port()),
            engine=engine_dir, until="open", label="worker",
            MESH_LLM_EPHEMERAL_KEY="1", TMPDIR=str(tmp_path),
        )
    )  # fmt: skip
    mine = worker.get("/api/status", worker.console)[1]
    wait_parts(host, host.status()["name"], mine["name"])
    found = layout(host)
    assert found is not None
    assert found.shares == (0.91, 0.09)
    assert found.layers == (LAYERS - 1, 1), "each chosen worker computes at least one layer"
    assert mine["node_id"] != host.status()["node_id"]
    assert worker.get("/api/status", worker.console)[1]["role"] == "worker"
    worker.wait_ready()
    assert answer(host) == answer(worker) == alone
    began_s = time.monotonic()
    worker.kill()
    name = host.status()["name"]
    wait_parts(host, name, max_s=BACK_MAX_S + LOAD_MAX_S)
    assert answer(host) == alone
    assert time.monotonic() - began_s <= BACK_MAX_S + LOAD_MAX_S
    assert engine_starts(host) == 3, "alone, split, alone again"
    assert re.search(r"lost a part of its split|lost its split", host.output)
    worker.wait_childless(5.0)
