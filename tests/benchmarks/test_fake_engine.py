"""The fake engine behaves like llama-server where a node can tell the difference."""

import http.client
import json
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.process import free_port, http_get, start, stop
from tests.benchmarks.conftest import StartEngine
from tests.fakes.fake_engine import write_fake_engine


def post(port: int, path: str, body: object) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_chat_that_is_not_streamed_has_the_tokens_asked_for(engine_port: int) -> None:
    status, body = post(engine_port, "/v1/chat/completions", {"max_tokens": 3})
    answer = json.loads(body)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == " qz qz qz"
    assert answer["usage"]["completion_tokens"] == 3


def test_a_stream_is_well_formed_sse_that_ends_with_done(engine_port: int) -> None:
    _, body = post(engine_port, "/v1/chat/completions", {"max_tokens": 2, "stream": True})
    events = [event.removeprefix(b"data: ") for event in body.strip().split(b"\n\n")]
    assert events[-1] == b"[DONE]"
    parts = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert [part["delta"].get("content") for part in parts] == [None, " qz", " qz", None]
    assert parts[-1]["finish_reason"] == "length"


def test_after_a_stream_the_connection_closes_though_keep_alive_was_announced(
    engine_port: int,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", engine_port, timeout=10)
    connection.request("POST", "/v1/completions", '{"stream": true, "max_tokens": 1}')
    answer = connection.getresponse()
    assert answer.getheader("Keep-Alive") is not None
    assert answer.getheader("Connection") is None
    answer.read()
    assert connection.sock is not None
    assert connection.sock.recv(1) == b""
    connection.close()


def test_after_a_plain_answer_the_connection_is_reused(engine_port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", engine_port, timeout=10)
    for _ in range(3):
        connection.request("POST", "/v1/completions", '{"max_tokens": 1}')
        assert connection.getresponse().read()
    assert json.loads(http_get(engine_port, "/fake/stats")[1])["requests"] >= 3
    connection.close()


def test_while_loading_every_path_says_503_loading_model(start_engine: StartEngine) -> None:
    port = start_engine("/fake/stats", FAKE_LOAD_S="1.5")
    for path in ("/health", "/v1/models", "/props"):
        status, body = http_get(port, path)
        assert (status, json.loads(body)["error"]["message"]) == (503, "Loading model")
    limit = time.monotonic() + 15
    while http_get(port, "/health")[0] != 200:
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/props", "total_slots"), ("/v1/models", "data"), ("/health", "status")],
)
def test_the_small_pages_answer(engine_port: int, path: str, field: str) -> None:
    status, body = http_get(engine_port, path)
    assert status == 200
    assert field in json.loads(body)


def test_embeddings_metrics_and_unknown_paths(engine_port: int) -> None:
    status, body = post(engine_port, "/v1/embeddings", {"input": "x"})
    assert (status, json.loads(body)["data"][0]["object"]) == (200, "embedding")
    assert b"llamacpp:tokens_predicted_total" in http_get(engine_port, "/metrics")[1]
    assert http_get(engine_port, "/nothing")[0] == 404
    assert post(engine_port, "/v1/chat/completions", "text")[0] == 500


def test_pipelined_requests_are_answered_in_order(start_engine: StartEngine) -> None:
    port = start_engine(FAKE_CLOSE_AFTER_STREAM="0")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.connect()
    assert connection.sock is not None
    body = b'{"stream":true,"max_tokens":3,"fake":{"interval_s":0.02}}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    connection.sock.sendall(head + body + head + body + last)
    said = b""
    while part := connection.sock.recv(65536):
        said += part
    assert said.count(b"[DONE]") == 2
    assert said.rindex(b"[DONE]") < said.index(b'{"status":"ok"}')
    connection.close()


def test_what_it_says_about_itself(tmp_path: Path) -> None:
    server = write_fake_engine(tmp_path / "with space") / "llama-server"
    said = {
        flag: subprocess.run([server, flag], capture_output=True, text=True, cwd="/")
        for flag in ("--help", "--version", "--list-devices")
    }
    assert all(run.returncode == 0 for run in said.values())
    assert "--spec-draft-n-max N" in said["--help"].stdout
    assert "version: 0.7.0" in said["--version"].stderr
    assert "Available devices:" in said["--list-devices"].stdout


def test_a_model_that_fails_and_a_port_that_is_taken_exit_1(
    tmp_path: Path, engine_port: int
) -> None:
    server = str(write_fake_engine(tmp_path / "other") / "llama-server")
    log = tmp_path / "log"
    broken = start([server, "--port", str(free_port())], log, {"FAKE_LOAD_FAILS": "1"})
    taken = start([server, "--port", str(engine_port)], log)
    assert (broken.wait(20), taken.wait(20)) == (1, 1)
    assert "failed to load model" in log.read_text()
    assert "couldn't bind" in log.read_text()


def test_sigterm_ends_it_with_0(tmp_path: Path) -> None:
    server = str(write_fake_engine(tmp_path / "bin") / "ggml-rpc-server")
    process = start([server, "-p", str(free_port())], log := tmp_path / "log")
    limit = time.monotonic() + 15
    while "listening" not in log.read_text():
        assert time.monotonic() < limit
        time.sleep(0.02)
    stop(process)
    assert process.returncode == 0
