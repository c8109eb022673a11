"""Scenario 3 with real nodes and engines: `--split` on one of two that could each hold the model alone."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.mesh_processes import MeshProcesses
from tests.e2e.split_mesh import (
    LAYERS,
    SHAPE,
    answer,
    answers,
    engine_starts,
    forced_pair,
    layout,
    wait_parts,
    write_model,
)

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def catalogue_folder(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    """Return a models folder with the scenario's model and the draft that the catalogue pairs it with."""
    folder = tmp_path_factory.mktemp("catalogue")
    write_model(folder, "Qwen2.5-32B-Instruct-Q4_K_M")
    shutil.copy(models_dir / "draft.gguf", folder / "Qwen2.5-0.5B-Instruct-Q4_K_M.gguf")
    return folder


def test_scenario_3_forced_split(made: MeshProcesses, catalogue_folder: Path) -> None:
    words = ("--models-dir", str(catalogue_folder), "--model", "Qwen2.5-32B", *SHAPE)
    a = made.start("box-a", *words, "--split", "--max-vram", "0.4", until="ready")
    alone = answer(a)
    assert layout(a) is not None
    assert engine_starts(a) == 1
    b = made.start("box-b", *words, "--max-vram", "0.2", join=made.token("box-a"))
    wait_parts(a, "box-a", "box-b")
    found = layout(a)
    assert found is not None
    assert found.names == ("box-a", "box-b")
    assert found.shares == (0.67, 0.33)
    assert a.status()["tensor_split"] == [0.67, 0.33]
    assert sum(found.layers) == LAYERS
    assert min(found.layers) > 0
    status = a.status()
    assert status["draft_name"] == "Qwen2.5-0.5B-Instruct-Q4_K_M"
    argv = a.engine_process().cmdline()
    assert argv[argv.index("-md") + 1].endswith("Qwen2.5-0.5B-Instruct-Q4_K_M.gguf")
    assert len(argv[argv.index("--rpc") + 1].split(",")) == 2, "box-b's, and the host's own"
    assert b.status()["role"] == "worker"
    # Both APIs answer, the worker's through the host, and a split computes what one machine did.
    assert answers(a) == answers(b) == alone
    assert engine_starts(a) == 2, "one for the node alone, one for the split"
    # box-b could hold it alone too: it may have begun to before it knew the mesh, and never again.
    assert engine_starts(b) <= 1
    assert b.get("/v1/models")[1]["data"][0]["id"] == "Qwen2.5-32B-Instruct-Q4_K_M"


def test_larger_node_that_comes_later_hosts_and_the_first_works_for_it(
    made: MeshProcesses, tmp_path: Path
) -> None:
    model = write_model(tmp_path)
    words = ("--model", str(model), *SHAPE)
    a = made.start("box-a", *words, "--split", "--max-vram", "0.2", until="ready")
    alone = answer(a)
    b = made.start("box-b", *words, "--max-vram", "0.4", join=made.token("box-a"))
    wait_parts(b, "box-b", "box-a")
    assert a.status()["role"] == "worker"
    assert answers(a) == answers(b) == alone


def test_ratios_that_the_operator_gives_are_used(made: MeshProcesses, tmp_path: Path) -> None:
    model = write_model(tmp_path)
    words = ("--model", str(model), *SHAPE)
    a = made.start("box-a", *words, "--split", "--tensor-split", "0.25,0.75",
                   "--max-vram", "0.4", until="ready")  # fmt: skip
    made.start("box-b", *words, "--max-vram", "0.2", join=made.token("box-a"))
    wait_parts(a, "box-a", "box-b")
    found = layout(a)
    assert found is not None
    assert found.shares == (0.25, 0.75)
    assert found.layers == (3, 9)


def test_forced_pair_tells_its_story_to_status_why_and_doctor(
    made: MeshProcesses, tmp_path: Path
) -> None:
    a, b = forced_pair(made, write_model(tmp_path))
    assert "box-b" in a.command("status").stdout
    told = a.command("why", "split").stdout
    assert "Forced by --split: box-a hosts it with box-b." in told, told
    assert "Accepted box-a: hosts it and computes 8 of 12 layers." in told, told
    assert "Accepted box-b: computes 4 of 12 layers, " in told, told
    theirs = b.command("why", "split").stdout
    assert "box-a" in theirs, theirs
    assert a.command("doctor").returncode == 0
