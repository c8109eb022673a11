"""Scenarios 12 and 13 with real engines: a host comes back and is used; what others do restarts nothing."""

from pathlib import Path

import pytest

from tests.e2e.mesh_processes import MeshProcesses, wait_state
from tests.e2e.test_scenario_6_two_models import asked, served, two_hosts

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]

ROUNDS = 3
"""Joins, kills and leaves of a bystander in one run; `make soak` runs the full five minutes."""


def test_scenario_12_killed_host_comes_back_without_a_token_and_is_routed_to_again(
    made: MeshProcesses, models_dir: Path
) -> None:
    a, b = two_hosts(made, models_dir)
    b.kill()
    wait_state(a, "box-b", "dead", 8)
    assert served(a) == {"tiny"}
    again = made.start("box-b", "--model", str(models_dir / "draft.gguf"), until="ready")
    wait_state(a, "box-b", "alive", 5)
    a.wait_for(lambda: served(a) == {"tiny", "draft"}, "both models", 5)
    assert asked(a, "draft")[0] == again.status()["node_id"]
    assert asked(again, "tiny")[0] == a.status()["node_id"]


def test_scenario_13_joins_kills_and_leaves_of_others_restart_no_engine(
    made: MeshProcesses, models_dir: Path
) -> None:
    a, b = two_hosts(made, models_dir)
    engines = [node.engine_process().pid for node in (a, b)]
    token = made.token("box-a")
    for number in range(ROUNDS):
        made.start("visitor", join=token)
        wait_state(a, "visitor", "alive")
        visitor = made.nodes["visitor"]
        if number % 2:
            visitor.kill()
            wait_state(a, "visitor", "dead", 8)
        else:
            visitor.process.terminate()
            visitor.wait_exit()
            wait_state(a, "visitor", "left", 5)
    for node in (a, b):
        assert node.status()["engine"]["starts"] == 1
        node.wait_for(
            lambda node=node: "still host, no restart needed" in node.output, "word of it", 10
        )
        assert served(node) == {"tiny", "draft"}
    assert [node.engine_process().pid for node in (a, b)] == engines
