"""Scenarios 2 and 6 with real engines: hosts of their own, each node answers for both, over QUIC."""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, OpenAI

from tests.e2e.mesh_processes import MeshProcesses, wait_state
from tests.e2e.node_process import NodeProcess

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]


def served(node: NodeProcess) -> set[str]:
    return {model["id"] for model in node.get("/v1/models")[1]["data"]}


def client(node: NodeProcess) -> OpenAI:
    return OpenAI(base_url=f"{node.api}/v1", api_key="none", max_retries=0)


def two_hosts(made: MeshProcesses, models_dir: Path) -> tuple[NodeProcess, NodeProcess]:
    a = made.start("box-a", "--model", str(models_dir / "tiny.gguf"), until="ready")
    b = made.start(
        "box-b", "--model", str(models_dir / "draft.gguf"), join=made.token("box-a"), until="ready"
    )
    for node in (a, b):
        node.wait_for(lambda node=node: served(node) == {"tiny", "draft"}, "both models")
    return a, b


def asked(node: NodeProcess, model: str) -> tuple[str, dict[str, Any]]:
    """Return which node answered, and the answer."""
    body = {"model": model, "prompt": "mesh", "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{node.api}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers["x-mesh-node"], json.load(answer)


def hosts(node: NodeProcess, model: str) -> int:
    """Return how many nodes can answer for the model, as this node sees it."""
    return sum(m["node_count"] for m in node.status()["mesh_models"] if m["name"] == model)


def test_scenario_6_each_node_lists_both_models_and_answers_for_both(
    made: MeshProcesses, models_dir: Path
) -> None:
    a, b = two_hosts(made, models_dir)
    ids = {"tiny": a.status()["node_id"], "draft": b.status()["node_id"]}
    for model, host in ids.items():
        here, there = asked(a, model), asked(b, model)
        assert (here[0], there[0]) == (host, host)
        assert here[1]["choices"][0]["text"] == there[1]["choices"][0]["text"]
    for model in ids:  # Routes follow at once, what is shown within a tenth of a second.
        a.wait_for(lambda model=model: hosts(a, model) == 1, f"{model} shown warm on one node")
    for node in (a, b):
        assert len(node.status()["rpc_entries"]) == 1


def test_scenario_6_stream_from_the_other_machine_comes_piece_by_piece(
    made: MeshProcesses, models_dir: Path
) -> None:
    a, _ = two_hosts(made, models_dir)
    began, times = time.monotonic(), []
    stream = client(a).chat.completions.create(
        model="draft", messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=64
    )
    for _ in stream:
        times.append(time.monotonic() - began)
    assert len(times) > 8
    assert times[0] < times[-1]


def test_scenario_2_same_model_twice_runs_solo_on_both(
    made: MeshProcesses, models_dir: Path
) -> None:
    model = str(models_dir / "tiny.gguf")
    a = made.start("box-a", "--model", model, until="ready")
    b = made.start("box-b", "--model", model, join=made.token("box-a"), until="ready")
    for node in (a, b):
        node.wait_for(lambda node=node: hosts(node, "tiny") == 2, "two hosts")
        status = node.status()
        assert (status["is_host"], status["tensor_split"]) == (True, None)
        assert status["engine"]["starts"] == 1
        assert asked(node, "tiny")[1]["choices"]


def test_scenario_11_on_use_a_killed_host_costs_no_request_while_another_serves_the_model(
    made: MeshProcesses, models_dir: Path
) -> None:
    model = str(models_dir / "tiny.gguf")
    entry = made.start("entry")
    token = made.token("entry")
    a = made.start("box-a", "--model", model, join=token, until="ready")
    b = made.start("box-b", "--model", model, join=token, until="ready")
    entry.wait_for(lambda: hosts(entry, "tiny") == 2, "two hosts")
    ids = {a.status()["node_id"], b.status()["node_id"]}
    assert {asked(entry, "tiny")[0] for _ in range(40)} == ids
    b.kill()
    for _ in range(40):
        assert asked(entry, "tiny")[0] == a.status()["node_id"]
    wait_state(entry, "box-b", "dead", 6)


def test_scenario_11_on_use_the_only_host_killed_is_an_error_at_once(
    made: MeshProcesses, models_dir: Path
) -> None:
    a, b = two_hosts(made, models_dir)
    b.kill()
    began = time.monotonic()
    with pytest.raises(APIStatusError) as error:
        client(a).chat.completions.create(
            model="draft", messages=[{"role": "user", "content": "hi"}], max_tokens=4
        )
    assert error.value.status_code in (404, 502, 503, 504)
    assert time.monotonic() - began < 5
    wait_state(a, "box-b", "dead", 6)
    assert served(a) == {"tiny"}
    again = made.start("box-b", "--model", str(models_dir / "draft.gguf"), until="ready")
    again.wait_for(lambda: served(again) == {"tiny", "draft"}, "both models")
    a.wait_for(lambda: served(a) == {"tiny", "draft"}, "both models again")
    assert asked(a, "draft")[1]["choices"]
