"""Scenarios 5, 8 and 15 with real engines: a client uses the mesh, and no node ever holds it as a peer."""

from pathlib import Path

import pytest

from tests.e2e.mesh_processes import MeshProcesses, states, wait_state
from tests.e2e.test_scenario_6_two_models import asked, client, served, two_hosts

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]


def test_scenarios_5_and_8_client_lists_every_model_and_is_answered_by_its_host(
    made: MeshProcesses, models_dir: Path
) -> None:
    a, b = two_hosts(made, models_dir)
    c = made.start("lite", "--client", join=made.token("box-a"))
    c.wait_for(lambda: served(c) == {"tiny", "draft"}, "both models")
    assert asked(c, "tiny")[0] == a.status()["node_id"]
    assert asked(c, "draft")[0] == b.status()["node_id"]
    chunks = list(
        client(c).chat.completions.create(
            model="draft", messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=16
        )
    )
    assert len(chunks) > 4
    for node in (a, b):
        assert "lite" not in states(node)
        assert len(states(node)) == 1
    status = a.status()
    assert status["mesh_vram_gb"] == pytest.approx(2 * status["my_vram_gb"], rel=0.05)
    assert "a client: it serves nothing" in c.output
    assert not (c.home / "key").exists(), "a client's identity is in memory"


def test_scenario_15_client_tells_what_its_mesh_serves_and_steers_nothing(
    made: MeshProcesses, models_dir: Path
) -> None:
    a, _ = two_hosts(made, models_dir)
    c = made.start("lite", "--client", join=made.token("box-a"))
    c.wait_for(lambda: served(c) == {"tiny", "draft"}, "both models")
    port = ("--port", str(c.port))
    told = c.command("why", "draft", *port)
    assert (told.returncode, "answered by box-b" in told.stdout) == (0, True), told
    for word in ("drop", "unload", "load", "restart"):
        refused = c.command(word, "draft", *port)
        assert (refused.returncode, "full member" in refused.stderr) == (1, True), refused
    assert served(a) == {"tiny", "draft"}
    elsewhere = a.command("restart", "draft")
    assert (elsewhere.returncode, "served by box-b" in elsewhere.stderr) == (1, True), elsewhere


def test_scenario_15_client_goes_on_when_the_node_that_gave_its_table_dies(
    made: MeshProcesses, models_dir: Path
) -> None:
    a, b = two_hosts(made, models_dir)
    c = made.start("lite", "--client", join=made.token("box-a"))
    c.wait_for(lambda: served(c) == {"tiny", "draft"}, "both models")
    a.kill()
    wait_state(b, "box-a", "dead", 8)
    assert asked(c, "draft")[0] == b.status()["node_id"]
    c.wait_for(lambda: served(c) == {"draft"}, "the model that is left", 30)
    made.start("box-a", "--model", str(models_dir / "tiny.gguf"), until="ready")
    c.wait_for(lambda: served(c) == {"tiny", "draft"}, "both models again", 30)


def test_client_that_reaches_nobody_ends_and_says_so(made: MeshProcesses, models_dir: Path) -> None:
    a = made.start("box-a", "--model", str(models_dir / "tiny.gguf"), until="ready")
    token = made.token("box-a")
    a.process.terminate()
    a.wait_exit()
    c = made.start("lite", "--client", join=token, until="started")
    assert c.wait_exit(30) == 1
    assert "reaches no mesh" in c.output
    assert made.start("x", "--client", until="started").wait_exit(20) == 2
