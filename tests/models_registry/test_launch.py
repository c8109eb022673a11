"""The exact command lines, for both spellings of the engine."""

from dataclasses import replace
from typing import Any

import pytest

from models_registry.engine.flags import EngineFlags
from models_registry.engine.probe import Engine
from models_registry.launch import Unsupported, engine_env, rpc_argv, server_argv, threads_for
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.model_facts import Capability, ModelFacts
from nodes.mesh.plans import ServerPlan
from tests.models_registry.engine.conftest import engine_050, engine_070

__all__ = ["engine_050", "engine_070"]

CHAT = frozenset({Capability.CHAT})
EMBED = frozenset({Capability.EMBEDDINGS})


def model(name: str = "tiny", capabilities: frozenset[Capability] = CHAT) -> ModelFacts:
    return ModelFacts(
        ModelName(name), f"/m/{name}.gguf", (f"/m/{name}.gguf",), 1, "llama", "F16", 1, 6, 4096, 128, 960,
        1, capabilities, True,
    )  # fmt: skip


PLAN = ServerPlan(RunId(1), model(), context=4096, parallel=2)


def argv(engine: Engine, plan: ServerPlan, **more: Any) -> str:
    return " ".join(server_argv(engine, plan, port=7001, threads=3, **more))


BASE = (
    "/e/llama-server -m /m/tiny.gguf --host 127.0.0.1 --port 7001 -c 8192 -np 2 -t 3 --alias tiny"
)
SWITCHES_070 = "--cache-ram 512 --metrics --slots --jinja --no-ui --offline"
SOLO_070 = f"{BASE} {SWITCHES_070} --embeddings --pooling mean"
SOLO_050 = f"{BASE} --metrics --slots --jinja --no-webui"


def test_solo(engine_050: Engine, engine_070: Engine) -> None:
    assert argv(engine_070, PLAN) == SOLO_070
    assert argv(engine_050, PLAN) == SOLO_050


def test_draft(engine_050: Engine, engine_070: Engine) -> None:
    plan = replace(PLAN, draft=model("small"), draft_max=5)
    assert argv(engine_070, plan) == (
        f"{SOLO_070} -md /m/small.gguf --spec-type draft-simple --spec-draft-n-max 5"
    )
    assert argv(engine_050, plan) == f"{SOLO_050} -md /m/small.gguf --draft-max 5"


def test_split_over_rpc_servers_with_given_ratios(engine_050: Engine, engine_070: Engine) -> None:
    plan = replace(PLAN, tensor_split=(0.67, 0.33))
    rpc = ["127.0.0.1:50052", "127.0.0.1:50053"]
    tail = "--rpc 127.0.0.1:50052,127.0.0.1:50053 -ngl 99 --tensor-split 0.67,0.33"
    assert argv(engine_070, plan, rpc=rpc) == f"{SOLO_070} {tail}"
    assert argv(engine_050, plan, rpc=rpc) == f"{SOLO_050} {tail}"


def test_draft_of_a_split_stays_on_the_host(engine_070: Engine) -> None:
    plan = replace(PLAN, draft=model("small"))
    assert argv(engine_070, plan, rpc=["127.0.0.1:1"]).endswith("--rpc 127.0.0.1:1 -ngl 99 -ngld 0")


def test_whole_layer_counts_are_written_as_whole_numbers(engine_070: Engine) -> None:
    plan = replace(PLAN, tensor_split=(20.0, 12.0))
    assert argv(engine_070, plan).endswith("--tensor-split 20,12")


def test_device_is_handed_on(engine_070: Engine) -> None:
    assert argv(engine_070, replace(PLAN, device="CUDA0")) == f"{SOLO_070} --device CUDA0"


def test_projector_switches_images_on_and_leaves_embeddings_off(engine_070: Engine) -> None:
    plan = replace(PLAN, model=replace(model(), mmproj_path="/m/eye.gguf"))
    assert argv(engine_070, plan) == f"{BASE} {SWITCHES_070} --mmproj /m/eye.gguf"


def test_embedding_model_takes_inputs_up_to_its_context(
    engine_050: Engine, engine_070: Engine
) -> None:
    plan = replace(PLAN, model=model(capabilities=EMBED), context=512)
    base = BASE.replace("-c 8192", "-c 1024")
    tail = "--embeddings --pooling mean -b 512 -ub 512"
    assert argv(engine_070, plan) == f"{base} {SWITCHES_070} {tail}"
    assert argv(engine_050, plan) == f"{base} --metrics --slots --jinja --no-webui {tail}"


def test_model_with_a_pooling_of_its_own_keeps_it(engine_070: Engine) -> None:
    plan = replace(PLAN, model=replace(model(capabilities=EMBED), pooling="cls"))
    assert "--pooling" not in argv(engine_070, plan)


@pytest.mark.parametrize(
    ("version", "build", "beside"),
    [("0.7.0", "", True), ("1.0", "", True), ("0.6.9", "", False), ("b11669", "11669", True),
     ("b6123", "6123", False), ("", "", False)],
)  # fmt: skip
def test_embeddings_beside_chat_only_where_chat_still_answers(
    engine_070: Engine, version: str, build: str, beside: bool
) -> None:
    engine = replace(engine_070, facts=replace(engine_070.facts, version=version, build=build))
    assert ("--embeddings" in argv(engine, PLAN)) is beside


def test_build_without_any_option_gets_only_what_every_build_has(engine_070: Engine) -> None:
    bare = replace(engine_070, flags=EngineFlags())
    assert (
        argv(bare, PLAN) == "/e/llama-server -m /m/tiny.gguf --host 127.0.0.1 --port 7001 -c 8192"
    )


@pytest.mark.parametrize(
    ("plan", "lacks"),
    [
        (replace(PLAN, draft=model("small")), "-md"),
        (replace(PLAN, device="CUDA0"), "--device"),
        (replace(PLAN, tensor_split=(1.0,)), "--tensor-split"),
        (replace(PLAN, model=replace(model(), mmproj_path="/m/eye.gguf")), "--mmproj"),
        (replace(PLAN, model=model(capabilities=EMBED)), "--embeddings"),
    ],
)
def test_wish_that_the_build_cannot_meet_is_a_reason(
    engine_070: Engine, plan: ServerPlan, lacks: str
) -> None:
    bare = replace(engine_070, flags=EngineFlags())
    with pytest.raises(Unsupported, match=f"has no {lacks}, .*mesh-llm engine install"):
        server_argv(bare, plan, port=1, threads=1)


def test_rpc_server_listens_on_loopback_and_keeps_tensors(engine_070: Engine) -> None:
    words = rpc_argv(engine_070, port=7002, threads=2)
    assert " ".join(words) == "/e/ggml-rpc-server -H 127.0.0.1 -p 7002 -t 2 -c"


def test_engine_without_rpc_server_cannot_split(engine_070: Engine) -> None:
    alone = replace(engine_070, facts=replace(engine_070.facts, rpc_server_path=None))
    with pytest.raises(Unsupported, match="no ggml-rpc-server"):
        rpc_argv(alone, port=1, threads=1)


@pytest.mark.parametrize(("cpus", "threads"), [(0, 1), (1, 1), (2, 1), (4, 3), (16, 15), (128, 16)])
def test_threads_leave_one_cpu_to_the_node(cpus: int, threads: int) -> None:
    assert threads_for(cpus) == threads


def test_environment_drops_what_would_change_the_engine_or_leak() -> None:
    base = {
        "PATH": "/bin",
        "LLAMA_ARG_PORT": "1",
        "LLAMA_API_KEY": "k",
        "HF_TOKEN": "t",
        "DATABASE_URL": "postgres://u:secret@db/x",
        "CHANNEL_LAYER_URL": "redis://:secret@cache",
        "LLAMA_CACHE": "/c",
    }
    assert engine_env(base) == {
        "PATH": "/bin", "LLAMA_CACHE": "/c", "GGML_NO_BACKTRACE": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    assert engine_env(base, cache_dir="/home/cache")["LLAMA_CACHE"] == "/home/cache"
