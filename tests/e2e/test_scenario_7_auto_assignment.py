"""Scenarios 7 and 9 with real engines: a joiner takes what the mesh needs; a drop reaches who serves it."""

import json
import shutil
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.mesh_processes import MeshProcesses, wait_state
from tests.e2e.node_process import NodeProcess
from tests.e2e.test_scenario_6_two_models import asked, served

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path, models_dir: Path) -> Path:
    """Return a models folder with GLM-like names, as the scenario has them."""
    made = tmp_path / "models"
    made.mkdir()
    shutil.copy(models_dir / "tiny.gguf", made / "Qwen2.5-3B.gguf")
    shutil.copy(models_dir / "draft.gguf", made / "GLM-4.7-Flash.gguf")
    return made


def seeder(made: MeshProcesses, folder: Path) -> NodeProcess:
    return made.start(
        "box-a", "--models-dir", str(folder), "--model", "Qwen2.5-3B", "--model", "GLM-4.7-Flash",
        until="ready",
    )  # fmt: skip


def both(node: NodeProcess) -> bool:
    return served(node) == {"Qwen2.5-3B", "GLM-4.7-Flash"}


def test_scenario_7_joiner_without_a_model_takes_the_one_that_the_mesh_needs(
    made: MeshProcesses, folder: Path
) -> None:
    a = seeder(made, folder)
    assert served(a) == {"Qwen2.5-3B"}
    b = made.start("box-b", "--models-dir", str(folder), join=made.token("box-a"), until="ready")
    for node in (a, b):
        node.wait_for(lambda node=node: both(node), "both models")
    text = "Assigned to serve GLM-4.7-Flash (needed by mesh, already on disk)"
    assert text in b.output
    assert asked(a, "GLM-4.7-Flash")[0] == b.status()["node_id"]
    assert asked(b, "Qwen2.5-3B")[0] == a.status()["node_id"]
    told = a.command("why", "GLM-4.7-Flash")
    assert told.returncode == 0, told.stderr
    assert "box-b" in told.stdout


def test_scenario_9_drop_from_any_node_ends_the_host_and_leaves_the_others(
    made: MeshProcesses, folder: Path
) -> None:
    a = seeder(made, folder)
    b = made.start("box-b", "--models-dir", str(folder), join=made.token("box-a"), until="ready")
    a.wait_for(lambda: both(a), "both models")
    dropped = a.command("drop", "GLM-4.7-Flash")
    assert dropped.returncode == 0, dropped.stdout + dropped.stderr
    assert b.wait_exit(20) == 0
    wait_state(a, "box-b", "left", 5)
    assert served(a) == {"Qwen2.5-3B"}
    assert a.status()["engine"]["starts"] == 1
    c = made.start("box-c", "--models-dir", str(folder), join=made.token("box-a"))
    wait_state(a, "box-c", "alive")
    unknown = c.command("drop", "no-such-model")
    assert unknown.returncode != 0
    assert "Nobody serves no-such-model" in unknown.stderr
    again = c.command("load", "GLM-4.7-Flash")
    assert again.returncode == 0, again.stderr
    a.wait_for(lambda: both(a), "both models again")


def test_scenario_9_stream_that_runs_at_the_drop_comes_to_its_end_and_then_the_host_leaves(
    made: MeshProcesses, folder: Path
) -> None:
    a = seeder(made, folder)
    b = made.start("box-b", "--models-dir", str(folder), join=made.token("box-a"), until="ready")
    a.wait_for(lambda: both(a), "both models")
    body = {"model": "GLM-4.7-Flash", "prompt": "mesh", "stream": True, "max_tokens": 3000}
    asked_at = urllib.request.Request(
        f"{a.api}/v1/completions", json.dumps(body | {"ignore_eos": True}).encode()
    )
    with urllib.request.urlopen(asked_at, timeout=60) as stream:
        assert stream.readline().startswith(b"data: ")
        began = time.monotonic()
        secret = (a.home / "run" / "secret").read_text().strip()
        dropped = a.post("/mesh/drop", {"model": "GLM-4.7-Flash"}, Authorization=f"Bearer {secret}")
        assert (dropped[0], time.monotonic() - began < 3.0) == (200, True), dropped
        for node in (a, b):
            assert node.post("/v1/completions", body)[0] == 404
        assert b.process.poll() is None, "the stream still runs"
        assert b"[DONE]" in stream.read()
    assert b.wait_exit(20) == 0


def test_scenario_7_standby_takes_over_when_a_model_loses_its_last_host(
    made: MeshProcesses, folder: Path
) -> None:
    a = seeder(made, folder)
    token = made.token("box-a")
    b = made.start("box-b", "--models-dir", str(folder), join=token, until="ready")
    a.wait_for(lambda: both(a), "both models")
    c = made.start("box-c", "--models-dir", str(folder), join=token)
    wait_state(c, "box-b", "alive")
    b.kill()
    wait_state(a, "box-b", "dead", 8)
    a.wait_for(lambda: both(a), "both models again", 30)
    assert asked(a, "GLM-4.7-Flash")[0] == c.status()["node_id"]
