"""Loss of each part of a split, on real nodes and engines: found, told, and served again without a person."""

import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.mesh_processes import MeshProcesses, wait_state
from tests.e2e.node_process import NodeProcess
from tests.e2e.split_mesh import (
    BACK_MAX_S,
    LOAD_MAX_S,
    answer,
    answers,
    engine_starts,
    forced_pair,
    rpc_process,
    wait_parts,
    write_model,
)
from tests.e2e.split_recovery import (
    DETECTED_S,
    STREAM_END_S,
    Recovery,
    freeze_all,
    host_killed,
    small_nodes,
    struck,
    thaw_all,
    worker_replaced,
    workers_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]

SERVED_AGAIN_S = BACK_MAX_S + LOAD_MAX_S


@pytest.fixture
def pair(made: MeshProcesses, tmp_path: Path) -> tuple[NodeProcess, NodeProcess]:
    return forced_pair(made, write_model(tmp_path))


def told_at_once(seen: Recovery) -> None:
    assert seen.stream_s is not None
    assert seen.stream_s <= STREAM_END_S
    assert "box-b" in seen.error or "split" in seen.error, seen.error


def test_worker_killed_while_idle_leaves_the_host_alone_again(
    pair: tuple[NodeProcess, NodeProcess],
) -> None:
    a, b = pair
    seen = struck(a, b.kill)
    assert seen.serving_s <= SERVED_AGAIN_S
    wait_parts(a, "box-a")
    assert engine_starts(a) == 3
    assert "box-b" in a.command("why", "split").stdout
    b.wait_childless(5.0)


def test_worker_killed_in_a_stream_ends_it_with_an_error_that_says_so(
    pair: tuple[NodeProcess, NodeProcess],
) -> None:
    a, b = pair
    seen = struck(a, b.kill, streaming=True)
    told_at_once(seen)
    assert seen.serving_s <= SERVED_AGAIN_S
    wait_parts(a, "box-a")
    assert engine_starts(a) == 3


@pytest.mark.parametrize("streaming", [False, True])
def test_rpc_server_killed_alone_is_started_again_and_split_anew(
    pair: tuple[NodeProcess, NodeProcess], streaming: bool
) -> None:
    a, b = pair
    alone = answer(a)
    seen = struck(a, rpc_process(b).kill, streaming=streaming)
    if streaming:
        told_at_once(seen)
    wait_parts(a, "box-a", "box-b", max_s=SERVED_AGAIN_S)
    assert answer(a) == alone
    assert b.status()["role"] == "worker"


def test_frozen_rpc_server_in_a_request_is_ended_where_it_runs(
    pair: tuple[NodeProcess, NodeProcess],
) -> None:
    a, b = pair
    seen = struck(a, rpc_process(b).suspend, streaming=True)
    assert seen.detected_s <= DETECTED_S
    told_at_once(seen)
    wait_parts(a, "box-a", "box-b", max_s=SERVED_AGAIN_S)


def test_frozen_machine_in_a_request_is_given_up_and_comes_back(
    pair: tuple[NodeProcess, NodeProcess],
) -> None:
    a, b = pair
    frozen: list[psutil.Process] = []
    try:
        seen = struck(a, lambda: frozen.extend(freeze_all(b)), streaming=True)
    finally:
        thaw_all(frozen)
    assert seen.detected_s <= DETECTED_S
    told_at_once(seen)
    assert seen.serving_s - seen.detected_s <= SERVED_AGAIN_S
    wait_state(a, "box-b", "alive", 20)
    wait_parts(a, "box-a", "box-b")
    assert answers(b) == answer(a)


def test_host_killed_is_followed_by_another_member(made: MeshProcesses, tmp_path: Path) -> None:
    first = small_nodes(made, write_model(tmp_path), ("box-a", "box-b", "box-c"))
    took_s = host_killed(made)
    assert took_s <= SERVED_AGAIN_S
    made.nodes[first].wait_childless(5.0)
    rest = [node for name, node in made.nodes.items() if name != first]
    assert answers(rest[0]) == answers(rest[1])


def test_third_node_takes_the_place_of_a_killed_worker(made: MeshProcesses, tmp_path: Path) -> None:
    host = made.nodes[small_nodes(made, write_model(tmp_path), ("box-a", "box-b", "box-c"))]
    before = answer(host)
    assert worker_replaced(made) <= SERVED_AGAIN_S
    assert answer(host) == before


def test_three_ways_lose_a_worker_and_take_a_fourth_node(
    made: MeshProcesses, tmp_path: Path
) -> None:
    model = write_model(tmp_path)
    wide = ("--ctx-size", "4096")  # 0.18 GB: three machines of 0.08
    host = made.nodes[small_nodes(made, model, ("box-a", "box-b", "box-c"), *wide)]
    assert len(workers_of(host)) == 2
    before = answer(host)
    made.start("box-d", "--max-vram", "0.08", "--models-dir", str(tmp_path / "none"),
               join=made.token("box-a"))  # fmt: skip
    wait_state(host, "box-d", "alive")
    lost, kept = workers_of(host)
    began_s = time.monotonic()
    made.nodes[lost].kill()
    wait_parts(host, host.status()["name"], kept, "box-d", max_s=SERVED_AGAIN_S)
    assert answer(host) == before
    assert time.monotonic() - began_s <= SERVED_AGAIN_S


def test_dropped_split_sends_the_worker_to_standby_and_the_host_home(
    pair: tuple[NodeProcess, NodeProcess], made: MeshProcesses, tmp_path: Path
) -> None:
    a, b = pair
    c = made.start("box-c", "--models-dir", str(tmp_path / "none"), join=made.token("box-a"))
    wait_state(c, "box-b", "alive")
    dropped = c.command("drop", "split")
    assert dropped.returncode == 0, dropped.stdout + dropped.stderr
    assert a.wait_exit(20) == 0
    b.wait_for(lambda: b.status()["role"] == "standby", "standby", 10)
    assert [c for c in b.children() if "rpc-server" in " ".join(c.cmdline()[:1])] == []
    a.wait_childless(5.0)


def test_passive_client_is_answered_by_a_split(
    pair: tuple[NodeProcess, NodeProcess], made: MeshProcesses
) -> None:
    a, b = pair
    lite = made.start("lite", "--client", join=made.token("box-b"))
    assert answers(lite, 20) == answer(a)
    stats = {peer["name"] for peer in b.status()["peers"]}
    assert "lite" not in stats
