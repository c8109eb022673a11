"""Scenario 4 with real nodes and engines: too big for one waits, and starts by itself when another comes."""

from pathlib import Path

import pytest

from tests.e2e.mesh_processes import MeshProcesses
from tests.e2e.node_process import NodeProcess
from tests.e2e.split_mesh import (
    ALONE_GB,
    LAYERS,
    PART_GB,
    SHAPE,
    answers,
    engine_starts,
    layout,
    wait_parts,
    write_model,
)

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path)


def reason(node: NodeProcess) -> str:
    """Return why the model is not served, as status says."""
    return str(next(m["reason"] for m in node.status()["mesh_models"] if m["name"] == "split"))


def waiting(made: MeshProcesses, model: Path) -> NodeProcess:
    """Return a node that offers too little for the model, and says so."""
    a = made.start("box-a", "--model", str(model), "--max-vram", PART_GB, *SHAPE)
    a.wait_for(lambda: reason(a).startswith("Waiting for more peers - need "), "the waiting line")
    return a


def test_scenario_4_too_big_for_one(made: MeshProcesses, model: Path) -> None:
    a = waiting(made, model)
    assert "have 80.0 MB" in reason(a)
    assert f"split: {reason(a)}" in a.output
    assert engine_starts(a) == 0
    status, body = a.post("/v1/completions", {"model": "split", "prompt": "hi"})
    assert status in (404, 503)
    assert body["error"]["message"]
    b = made.start("box-b", "--model", str(model), "--max-vram", PART_GB, *SHAPE,
                   join=made.token("box-a"))  # fmt: skip
    # Nobody does anything: both have as much memory, so the higher id hosts.
    host, worker = (a, b) if a.status()["node_id"] > b.status()["node_id"] else (b, a)
    wait_parts(host, host.status()["name"], worker.status()["name"])
    found = layout(host)
    assert found is not None
    assert found.shares == (0.5, 0.5)
    assert found.layers == (LAYERS // 2, LAYERS // 2)
    assert worker.status()["role"] == "worker"
    assert answers(a) == answers(b)
    assert engine_starts(a) + engine_starts(b) == 1


def test_node_without_the_file_lends_its_memory(made: MeshProcesses, model: Path) -> None:
    a = waiting(made, model)
    b = made.start("box-b", "--max-vram", "0.08", *SHAPE, "--models-dir", str(model.parent / "none"),
                   join=made.token("box-a"))  # fmt: skip
    wait_parts(a, "box-a", "box-b")
    assert b.status()["role"] == "worker"
    assert answers(b) == answers(a)


def test_nodes_that_cannot_hold_it_defer_to_the_one_that_can(
    made: MeshProcesses, model: Path
) -> None:
    a = waiting(made, model)
    c = made.start("box-c", "--model", str(model), "--max-vram", ALONE_GB, *SHAPE,
                   join=made.token("box-a"), until="ready")  # fmt: skip
    a.wait_for(lambda: "box-c" in reason(a), "whom it is left to", 15)
    assert answers(a) == answers(c)
    assert engine_starts(a) == 0
    found = layout(c)
    assert found is not None
    assert found.names == ("box-c",)
