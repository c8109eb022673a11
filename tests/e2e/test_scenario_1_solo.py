"""Scenario 1: one node, one model, an API and a console."""

from pathlib import Path

import pytest

from tests.e2e.node_process import NodeProcess

pytestmark = [pytest.mark.e2e, pytest.mark.engine]


def test_solo_node_answers_and_says_it_is_host_without_peers(
    home: Path, engine_dir: Path, models_dir: Path
) -> None:
    with NodeProcess(home, "--model", str(models_dir / "tiny.gguf"), engine=engine_dir) as node:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        code, answer = node.post("/v1/chat/completions", body)
        assert code == 200
        assert answer["choices"][0]["message"]["role"] == "assistant"
        code, status = node.get("/api/status", node.console)
        assert code == 200
        assert (status["is_host"], status["peers"], status["llama_ready"]) == (True, [], True)
        assert [entry["via"] for entry in status["rpc_entries"]] == ["local"]
        assert status["engine"]["starts"] == 1
        assert "token" not in status, "the token is for operators only"


def test_rpc_self_computes_through_the_nodes_own_rpc_server(
    home: Path, engine_dir: Path, models_dir: Path
) -> None:
    model = str(models_dir / "tiny.gguf")
    with NodeProcess(home, "--model", model, "--rpc-self", engine=engine_dir) as node:
        commands = [" ".join(child.cmdline()) for child in node.children()]
        assert any("rpc-server" in c and "--rpc" not in c for c in commands), commands
        (server,) = [c for c in commands if "--rpc" in c]
        assert server.count("127.0.0.1:") >= 1
        body = {"prompt": "hi", "max_tokens": 4}
        assert node.post("/v1/completions", body)[0] == 200


def test_node_without_a_model_serves_the_demo_which_answers_in_english(
    home: Path, engine_dir: Path
) -> None:
    with NodeProcess(home, engine=engine_dir) as node:
        question = [{"role": "user", "content": "What is a mesh?"}]
        body = {"model": "auto", "messages": question, "temperature": 0}
        _, answer = node.post("/v1/chat/completions", body)
        assert "machines" in answer["choices"][0]["message"]["content"]
