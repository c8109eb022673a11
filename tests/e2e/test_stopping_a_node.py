"""What open streams see when a node is told to stop."""

import http.client
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.mesh_processes import mesh, wait_state
from tests.e2e.node_process import NodeProcess
from tests.fakes.fake_engine.folder import write_fake_engine

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def open_stream(
    node: NodeProcess, tokens: int, interval_s: float, model: str | None = None
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
    body = {
        **({"model": model} if model else {}),
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": tokens,
        "fake": {"interval_s": interval_s},
    }
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline().startswith(b"data: ")
    return answer


@pytest.fixture
def fake_engine(tmp_path: Path) -> Path:
    return write_fake_engine(tmp_path / "engine", sys.executable)


def start(home: Path, engine: Path, models_dir: Path, *more: str) -> NodeProcess:
    return NodeProcess(home, "--model", str(models_dir / "tiny.gguf"), *more, engine=engine)


def test_stream_finishes_within_the_grace_and_new_requests_are_refused(
    home: Path, fake_engine: Path, models_dir: Path
) -> None:
    with start(home, fake_engine, models_dir) as node:
        stream = open_stream(node, tokens=30, interval_s=0.05)
        node.process.send_signal(signal.SIGTERM)
        node.wait_for(lambda: "Stopping (SIGTERM)" in node.output, "stop")
        assert stream.read().rstrip().endswith(b"data: [DONE]")
        assert node.wait_exit() == 0


def test_stream_longer_than_the_grace_ends_with_an_explicit_error(
    home: Path, fake_engine: Path, models_dir: Path
) -> None:
    with start(home, fake_engine, models_dir, "--stop-grace", "1") as node:
        stream = open_stream(node, tokens=10_000, interval_s=0.05)
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        rest = stream.read()
        assert 0.9 <= time.monotonic() - began < 10
        last = rest.rstrip().splitlines()[-1]
        assert b"[DONE]" not in rest
        assert json.loads(last.removeprefix(b"data: "))["error"]["message"]
        assert node.wait_exit() == 0


def test_stream_from_another_nodes_engine_finishes_within_the_grace_too(
    tmp_path: Path, fake_engine: Path, models_dir: Path
) -> None:
    with mesh(tmp_path, fake_engine) as made:
        a = made.start("box-a", "--model", str(models_dir / "tiny.gguf"), until="ready")
        b = made.start("box-b", join=made.token("box-a"), until="ready")
        stream = open_stream(b, tokens=40, interval_s=0.05, model="tiny")
        b.process.send_signal(signal.SIGTERM)
        assert stream.read().rstrip().endswith(b"data: [DONE]")
        assert b.wait_exit() == 0
        wait_state(a, "box-b", "left")


def test_second_signal_stops_at_once(home: Path, fake_engine: Path, models_dir: Path) -> None:
    with start(home, fake_engine, models_dir) as node:
        stream = open_stream(node, tokens=10_000, interval_s=0.05)
        node.children()
        node.process.send_signal(signal.SIGINT)
        node.wait_for(lambda: "Stopping (SIGINT)" in node.output, "stop")
        os.kill(node.process.pid, signal.SIGINT)
        assert node.wait_exit(15) == 130
        assert b"[DONE]" not in stream.read()
        node.wait_childless(5)


def test_words_stop_drop_and_status_speak_to_the_running_node(
    home: Path, fake_engine: Path, models_dir: Path
) -> None:
    with start(home, fake_engine, models_dir) as node:
        shown = node.command("status")
        assert shown.returncode == 0
        assert "warm     tiny" in shown.stdout
        assert json.loads(node.command("status", "--json").stdout)["token"].startswith("mesh1-")
        unknown = node.command("drop", "nothing")
        assert unknown.returncode == 1
        assert "Nobody serves nothing" in unknown.stderr
        dropped = node.command("drop", "tiny")
        assert dropped.returncode == 0, dropped.stderr
        assert node.wait_exit() == 0
    assert "No node runs" in node.command("status").stderr
    assert node.command("stop").returncode == 1


def test_node_that_still_looks_for_its_engine_stops_at_once(home: Path, tmp_path: Path) -> None:
    hung = tmp_path / "hung"
    hung.mkdir()
    (hung / "llama-server").write_text("#!/bin/sh\nexec sleep 15\n")
    (hung / "llama-server").chmod(0o755)
    with NodeProcess(home, engine=hung, until="open") as node:
        node.wait_for(lambda: node.get("/health", node.console)[0] == 200, "the console")
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert node.wait_exit() == 0
        assert time.monotonic() - began < 5
