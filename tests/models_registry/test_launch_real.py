"""Each command line starts a real engine, which answers."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from models_registry.engine.probe import Engine, probe
from models_registry.launch import engine_env, rpc_argv, server_argv
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.model_facts import Capability, ModelFacts
from nodes.mesh.plans import ServerPlan
from tests.models_registry.engine.conftest import real_engine_dir

__all__ = ["real_engine_dir"]
pytestmark = pytest.mark.engine
READY_TIMEOUT_S = 60.0
DIM, FEED_FORWARD, HEADS, CONTEXT = 64, 128, 2, 512


@pytest.fixture(scope="module")
def engine(real_engine_dir: Path) -> Engine:
    return probe(real_engine_dir / "llama-server", "home", None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFacts:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_llama(path, layers=2)
    return ModelFacts(
        ModelName("tiny"), str(path), (str(path),), path.stat().st_size, "llama", "F32", 1, 2, CONTEXT, DIM,
        320, 1, frozenset({Capability.CHAT}), False,
    )  # fmt: skip


def write_llama(path: Path, *, layers: int) -> None:
    """Write the smallest llama that answers: random weights and a vocabulary of bytes."""
    rng = np.random.default_rng(7)
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [2, 3, 3, *([6] * 256)]
    while len(tokens) < 320:
        tokens.append(f"word{len(tokens)}".encode())
        kinds.append(1)
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(CONTEXT)
    out.add_embedding_length(DIM)
    out.add_block_count(layers)
    out.add_feed_forward_length(FEED_FORWARD)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(DIM // HEADS)
    out.add_tokenizer_model("llama")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_token_scores([0.0] * len(tokens))
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)

    def tensor(name: str, *shape: int) -> None:
        out.add_tensor(name, (rng.standard_normal(shape) * 0.1).astype(np.float32))

    tensor("token_embd.weight", len(tokens), DIM)
    tensor("output_norm.weight", DIM)
    tensor("output.weight", len(tokens), DIM)
    for i in range(layers):
        for norm in ("attn_norm", "ffn_norm"):
            tensor(f"blk.{i}.{norm}.weight", DIM)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{i}.{part}.weight", DIM, DIM)
        tensor(f"blk.{i}.ffn_gate.weight", FEED_FORWARD, DIM)
        tensor(f"blk.{i}.ffn_up.weight", FEED_FORWARD, DIM)
        tensor(f"blk.{i}.ffn_down.weight", DIM, FEED_FORWARD)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@contextlib.contextmanager
def running(argv: list[str], cache: Path) -> Iterator["subprocess.Popen[bytes]"]:
    log = cache / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdout=out, stderr=out, env=engine_env(os.environ, cache_dir=str(cache))
        )
    try:
        yield process
        assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
    finally:
        process.kill()
        process.wait()


def post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer, waiting while the engine starts and loads."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=READY_TIMEOUT_S) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > deadline:
                raise AssertionError(error.read()) from error
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def one_token(port: int) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "model": "tiny"}
    answer = post(port, "/v1/chat/completions", body)
    assert answer["usage"]["completion_tokens"] == 1
    assert answer["model"] == "tiny"


def plan_for(model: ModelFacts, **more: Any) -> ServerPlan:
    return ServerPlan(RunId(1), model, context=CONTEXT // 2, parallel=2, **more)


def test_solo_answers_chat_and_embeddings(engine: Engine, tiny: ModelFacts, tmp_path: Path) -> None:
    port = free_port()
    with running(server_argv(engine, plan_for(tiny), port=port, threads=1), tmp_path):
        one_token(port)
        embedded = post(port, "/v1/embeddings", {"input": "hi", "model": "tiny"})
        assert len(embedded["data"][0]["embedding"]) == DIM
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/slots", timeout=5) as answer:
            assert len(json.load(answer)) == 2
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b"llamacpp:" in answer.read()


def test_draft_really_drafts(engine: Engine, tiny: ModelFacts, tmp_path: Path) -> None:
    port = free_port()
    argv = server_argv(engine, plan_for(tiny, draft=tiny, draft_max=4), port=port, threads=1)
    with running(argv, tmp_path):
        body = {"prompt": "hi", "max_tokens": 16, "temperature": 0}
        assert post(port, "/v1/completions", body)["timings"]["draft_n"] > 0


def test_own_rpc_server_carries_the_model(engine: Engine, tiny: ModelFacts, tmp_path: Path) -> None:
    (tmp_path / "rpc").mkdir()
    rpc_port, port = free_port(), free_port()
    with running(rpc_argv(engine, port=rpc_port, threads=1), tmp_path / "rpc"):
        deadline = time.monotonic() + READY_TIMEOUT_S
        while "Starting RPC server" not in (tmp_path / "rpc" / "log").read_text("utf-8", "replace"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        plan = plan_for(tiny, rpc_self=True, draft=tiny)
        argv = server_argv(engine, plan, port=port, threads=1, rpc=[f"127.0.0.1:{rpc_port}"])
        with running(argv, tmp_path):
            one_token(port)
    assert "Accepted client" in (tmp_path / "rpc" / "log").read_text("utf-8", "replace")


def test_embedding_model_takes_a_long_input(
    engine: Engine, tiny: ModelFacts, tmp_path: Path
) -> None:
    only = replace(tiny, capabilities=frozenset({Capability.EMBEDDINGS}))
    port = free_port()
    with running(server_argv(engine, plan_for(only), port=port, threads=1), tmp_path):
        embedded = post(port, "/v1/embeddings", {"input": "x" * (CONTEXT // 2 - 10)})
        assert embedded["usage"]["prompt_tokens"] > 200
