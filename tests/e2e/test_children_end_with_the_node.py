"""No process of ours outlives its node, and no other process is ever touched."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.node_process import NodeProcess, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

GONE_MAX_S = 5.0


@pytest.fixture
def bystander(engine_dir: Path, models_dir: Path) -> Iterator[subprocess.Popen]:
    """A llama-server that is nobody's child but the test's."""
    port = str(free_port())
    argv = [
        str(engine_dir / "llama-server"),
        "-m",
        str(models_dir / "tiny.gguf"),
        "--port",
        port,
        "-c",
        "256",
    ]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def node_on(home: Path, engine_dir: Path, models_dir: Path, *more: str) -> NodeProcess:
    model = str(models_dir / "tiny.gguf")
    return NodeProcess(home, "--model", model, "--rpc-self", *more, engine=engine_dir)


def test_sigterm_ends_engine_rpc_server_and_guard_and_exits_zero(
    home: Path, engine_dir: Path, models_dir: Path, bystander: subprocess.Popen
) -> None:
    with node_on(home, engine_dir, models_dir) as node:
        assert len(node.children()) >= 3
        node.process.send_signal(signal.SIGTERM)
        assert node.wait_exit() == 0
        node.wait_childless(GONE_MAX_S)
    assert bystander.poll() is None


def test_sigkill_of_the_node_leaves_no_child_after_five_seconds(
    home: Path, engine_dir: Path, models_dir: Path, bystander: subprocess.Popen
) -> None:
    with node_on(home, engine_dir, models_dir) as node:
        node.kill()
        node.wait_childless(GONE_MAX_S)
    assert bystander.poll() is None


def test_sigkill_of_node_and_guard_together_leaves_no_child(
    home: Path, engine_dir: Path, models_dir: Path, bystander: subprocess.Popen
) -> None:
    with node_on(home, engine_dir, models_dir) as node:
        guards = [c for c in node.children() if any("guard" in word for word in c.cmdline())]
        assert guards
        for process in [*guards, psutil.Process(node.process.pid)]:
            os.kill(process.pid, signal.SIGKILL)
        node.process.wait()
        node.wait_childless(GONE_MAX_S)
    assert bystander.poll() is None


def test_engine_that_is_killed_is_started_again_and_answers(
    home: Path, engine_dir: Path, models_dir: Path
) -> None:
    with node_on(home, engine_dir, models_dir) as node:
        first = node.engine_process()
        first.kill()
        node.wait_for(lambda: node.status()["engine"]["starts"] == 2, "second engine")
        node.wait_ready()
        assert node.engine_process().pid != first.pid
        assert node.post("/v1/completions", {"prompt": "hi", "max_tokens": 2})[0] == 200


def test_second_start_in_the_same_home_works_right_after_a_sigkill(
    home: Path, engine_dir: Path, models_dir: Path
) -> None:
    with node_on(home, engine_dir, models_dir) as node:
        node.kill()
    with node_on(home, engine_dir, models_dir) as again:
        assert again.status()["engine"]["starts"] == 1


def test_ephemeral_home_is_removed_at_exit(
    home: Path, engine_dir: Path, models_dir: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    model = str(models_dir / "tiny.gguf")
    node = NodeProcess(
        home, "--model", model, engine=engine_dir,
        MESH_LLM_EPHEMERAL_KEY="1", TMPDIR=str(scratch),
    )  # fmt: skip
    with node:
        assert list(scratch.glob("mesh-llm-*"))
    assert not list(scratch.glob("mesh-llm-*"))
    assert not (home / "key").exists()


def test_ephemeral_home_is_removed_when_the_start_itself_is_stopped(
    home: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    node = NodeProcess(home, MESH_LLM_EPHEMERAL_KEY="1", TMPDIR=str(temporary)).start()
    node.wait_for(lambda: list(temporary.glob("mesh-llm-*")), "folder")
    node.process.send_signal(signal.SIGTERM)
    assert node.wait_exit() in (0, 128 + signal.SIGTERM)
    assert list(temporary.glob("mesh-llm-*")) == []
    assert "Traceback" not in node.output
