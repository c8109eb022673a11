"""Scenarios 11 and 12 as far as membership goes: killed, silent, left, restarted; on real processes."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.mesh_processes import (
    MeshProcesses,
    freeze,
    mesh,
    seconds_until,
    states,
    thaw,
    wait_states,
)
from tests.e2e.node_process import NodeProcess
from tests.fakes.fake_engine.folder import write_fake_engine

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def three(tmp_path: Path) -> Iterator[MeshProcesses]:
    with mesh(tmp_path, write_fake_engine(tmp_path / "engine", sys.executable)) as made:
        made.start("box-a")
        token = made.token("box-a")
        made.start("box-b", join=token)
        made.start("box-c", join=token)
        for name, node in made.nodes.items():
            wait_states(node, {other: "alive" for other in made.nodes if other != name})
        yield made


def survivors(made: MeshProcesses) -> dict[str, NodeProcess]:
    return {name: node for name, node in made.nodes.items() if name != "box-c"}


def when_all_see(made: MeshProcesses, wanted: set[str], max_s: float) -> dict[str, float]:
    def sees(node: NodeProcess) -> bool:
        return states(node).get("box-c") in wanted

    return seconds_until({n: partial(sees, node) for n, node in survivors(made).items()}, max_s)


def test_scenario_11_killed_node_is_dead_everywhere_in_seconds_and_back_after_its_restart(
    three: MeshProcesses,
) -> None:
    victim = three.nodes["box-c"]
    victim.kill()
    # The bounds of the specification; `make soak` counts 30 kills and prints the percentiles.
    assert max(when_all_see(three, {"dead"}, 6.0).values()) <= 6.0
    for node in survivors(three).values():
        assert "box-c was declared dead" in node.output
    three.start("box-c")
    when_all_see(three, {"alive"}, 10.0)


def test_scenario_11_silent_node_is_used_last_at_once_and_dead_within_six_seconds(
    three: MeshProcesses,
) -> None:
    victim = three.nodes["box-c"]
    freeze(victim)
    try:
        assert max(when_all_see(three, {"late", "suspect", "dead"}, 3.0).values()) <= 3.0
        assert max(when_all_see(three, {"dead"}, 6.0).values()) <= 6.0
    finally:
        thaw(victim)
    when_all_see(three, {"alive"}, 20.0)


def test_clean_leave_is_known_everywhere_at_once(three: MeshProcesses) -> None:
    three.nodes["box-c"].process.terminate()
    when_all_see(three, {"left"}, 3.0)
    assert three.nodes["box-c"].wait_exit() == 0


def test_second_process_with_the_same_key_is_named_and_gives_way(
    three: MeshProcesses, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    copied.mkdir(mode=0o700)
    for name in ("key", "mesh_key", "contacts"):
        content = tmp_path / "box-c" / name
        if content.exists():
            (copied / name).write_bytes(content.read_bytes())
            (copied / name).chmod(0o600)
    token = three.token("box-a")
    twin = three.start("copied", join=token, until="started")
    assert twin.wait_exit(30) != 0
    assert "key" in twin.output
    assert "gives way" in twin.output
    wait_states(three.nodes["box-a"], {"box-b": "alive", "box-c": "alive"}, 20)
