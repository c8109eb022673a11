"""What a header says of the cache and of what a model can do, for each kind of attention."""

from pathlib import Path
from typing import Any

import pytest

from models_registry.gguf_cache import CacheSize, cache_size
from models_registry.gguf_header import read_facts
from nodes.mesh.model_facts import Capability
from tests.models_registry.gguf_bytes import header, llama, padded, write


def size(architecture: str, **keys: Any) -> CacheSize | None:
    return cache_size(
        architecture, {f"{architecture}.{k.replace('__', '.')}": v for k, v in keys.items()}
    )


GQA = {
    "block_count": 36,
    "embedding_length": 2048,
    "attention__head_count": 16,
    "attention__head_count_kv": 2,
}


def test_grouped_heads_cost_keys_and_values_of_the_kv_heads() -> None:
    # Qwen2.5-3B: 36 layers x 2 heads x (128 + 128) x 2 bytes.
    assert size("qwen2", **GQA) == CacheSize(36 * 2 * 256 * 2, 0)


def test_without_kv_heads_all_heads_count() -> None:
    keys = {key: value for key, value in GQA.items() if not key.endswith("head_count_kv")}
    assert size("llama", **keys) == CacheSize(36 * 16 * 256 * 2, 0)


def test_head_widths_of_their_own_win_over_the_quotient() -> None:
    found = size("qwen3", **GQA, attention__key_length=64, attention__value_length=96)
    assert found == CacheSize(36 * 2 * (64 + 96) * 2, 0)


def test_heads_for_each_layer_are_added_up() -> None:
    heads = {"attention__head_count": (2, 4, 6), "attention__head_count_kv": (1, 2, 3)}
    found = size("openelm", block_count=3, embedding_length=96, **heads)
    assert found == CacheSize(2 * (1 * (48 + 48) + 2 * (24 + 24) + 3 * (16 + 16)), 0)


def test_latent_attention_keeps_one_row_for_a_layer() -> None:
    # GLM-4.7-Flash: 47 layers, latent 512 + 64 rotary, values are a view of it.
    heads = {
        "attention__head_count": 20,
        "attention__head_count_kv": 1,
        "attention__kv_lora_rank": 512,
    }
    widths = {
        "attention__key_length": 576,
        "attention__value_length": 512,
        "attention__key_length_mla": 256,
    }
    found = size("deepseek2", block_count=47, embedding_length=2048, **heads, **widths)
    assert found == CacheSize(47 * 576 * 2, 0)


def test_next_token_layers_have_no_cache() -> None:
    assert size("glm4moe", **GQA, nextn_predict_layers=1) == CacheSize(35 * 2 * 256 * 2, 0)


def test_a_known_window_costs_a_fixed_amount_for_a_slot() -> None:
    # gpt-oss: every second layer sees 128 tokens only.
    found = size("gpt-oss", **GQA, attention__sliding_window=128)
    assert found == CacheSize(18 * 1024, 18 * 1024 * (128 + 512))


def test_a_listed_window_pattern_is_followed() -> None:
    found = size(
        "x", block_count=3, embedding_length=64, attention__head_count=1, attention__sliding_window=10,
        attention__sliding_window_pattern=(True, False, True),
    )  # fmt: skip
    assert found == CacheSize(256, 2 * 256 * 522)


def test_a_window_of_unknown_pattern_counts_as_full() -> None:
    assert size("newarch", **GQA, attention__sliding_window=128) == CacheSize(36 * 1024, 0)


def test_a_hybrid_counts_attention_by_token_and_state_by_slot() -> None:
    found = size(
        "qwen3next", **GQA, full_attention_interval=4, ssm__conv_kernel=4, ssm__inner_size=4096,
        ssm__state_size=128, ssm__group_count=16,
    )  # fmt: skip
    state = 4 * (3 * (4096 + 2 * 16 * 128) + 128 * 4096)
    assert found == CacheSize(9 * 1024, 27 * state)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"block_count": 4},
        {"block_count": 10**6, "attention__head_count": 4},
        {"block_count": 4, "attention__head_count": (4, 4), "embedding_length": 64},
        {**GQA, "ssm__conv_kernel": 4},
        {"block_count": 4, "attention__head_count": "four"},
    ],
)
def test_too_little_told_is_none(keys: dict[str, Any]) -> None:
    assert size("llama", **keys) is None


TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {Capability.CHAT}),
        ({"tokenizer__chat_template": "{{ messages }}"}, {Capability.CHAT}),
        ({"tokenizer__chat_template": TOOLS}, {Capability.CHAT, Capability.TOOLS}),
        (
            {"tokenizer__chat_template": "<think>" + TOOLS},
            {Capability.CHAT, Capability.TOOLS, Capability.REASONING},
        ),
        ({"llama__pooling_type": 1, "tokenizer__chat_template": TOOLS}, {Capability.EMBEDDINGS}),
        ({"llama__pooling_type": 0}, {Capability.CHAT}),
        ({"llama__pooling_type": 4}, set()),
        ({"general__architecture": "bert"}, {Capability.EMBEDDINGS}),
    ],
)
def test_capabilities_follow_template_and_pooling(
    tmp_path: Path, more: dict[str, object], expected: set[Capability]
) -> None:
    facts = read_facts(write(tmp_path / "m.gguf", padded(header(llama(**more)))))
    assert facts.capabilities == expected
    assert facts.chat_template == ("tokenizer__chat_template" in more)


PROJECTOR = padded(header({"general.architecture": "clip"}))


@pytest.mark.parametrize(
    ("model", "others", "found"),
    [
        ("gemma-Q4_K_M.gguf", ["mmproj-model-f16.gguf"], "mmproj-model-f16.gguf"),
        ("gemma-Q4_K_M.gguf", ["mmproj-gemma-f16.gguf", "other.gguf"], "mmproj-gemma-f16.gguf"),
        ("gemma-Q4_K_M.gguf", ["gemma-mmproj-bf16.gguf", "other.gguf"], "gemma-mmproj-bf16.gguf"),
        ("gemma-Q4_K_M.gguf", ["mmproj-model-f16.gguf", "other.gguf"], None),
        ("gemma-Q4_K_M.gguf", ["mmproj-qwen.gguf", "qwen.gguf"], None),
        ("gemma-Q4_K_M.gguf", [], None),
    ],
)
def test_a_projector_beside_the_model_gives_it_sight(
    tmp_path: Path, model: str, others: list[str], found: str | None
) -> None:
    path = write(tmp_path / model, padded(header(llama())))
    for name in others:
        write(tmp_path / name, PROJECTOR)
    facts = read_facts(path)
    assert facts.mmproj_path == (str(tmp_path / found) if found else None)
    assert (Capability.VISION in facts.capabilities) == (found is not None)
    assert facts.mmproj_bytes == (len(PROJECTOR) if found else 0)
