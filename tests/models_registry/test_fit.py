"""Whether a model fits, and how long its context may be: the spec's rule on plain numbers."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from nodes.mesh.fit import (
    COMFORT_SHARE,
    CONTEXT_COMFORT,
    CONTEXT_MIN,
    CONTEXT_STEP,
    auto_context,
    fits,
    least_memory,
    memory_needed,
)
from nodes.mesh.ids import ModelName
from nodes.mesh.model_facts import ModelFacts

GB = 1_000_000_000


def facts(**changes: object) -> ModelFacts:
    """Return the facts of a 3B model (Qwen2.5-3B at Q4_K_M), changed."""
    base = ModelFacts(
        name=ModelName("m"), path="/m.gguf", shards=("/m.gguf",), size_bytes=1_930_000_000,
        architecture="qwen2", quantisation="Q4_K_M", parameters=3_090_000_000, layers=36,
        context_train=32_768, embedding_length=2048, vocab_size=151_936, kv_bytes_per_token=36_864,
        capabilities=frozenset(), chat_template=True,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


ONE_B = facts(
    size_bytes=810_000_000,
    layers=16,
    context_train=131_072,
    kv_bytes_per_token=32_768,
    vocab_size=128_256,
)
UNKNOWN = facts(kv_bytes_per_token=0)


def test_need_is_weights_and_cache_and_buffers() -> None:
    need = memory_needed(facts(), 4096, 4, None)
    assert need.weights_bytes == 1_930_000_000
    assert need.kv_bytes == 36_864 * 4096 * 4
    assert need.total_bytes == need.weights_bytes + need.kv_bytes + need.compute_bytes
    assert 0.3 * GB < need.compute_bytes < 0.6 * GB


def test_a_slots_fixed_cache_counts_once_for_each_slot() -> None:
    more = memory_needed(facts(kv_bytes_per_slot=1000), 4096, 3, None).kv_bytes
    assert more == memory_needed(facts(), 4096, 3, None).kv_bytes + 3000


def test_a_projector_counts_as_weights() -> None:
    assert memory_needed(facts(mmproj_bytes=5), 4096, 1, None).weights_bytes == 1_930_000_005


def test_a_draft_adds_its_weights_cache_and_buffers() -> None:
    alone, both = memory_needed(facts(), 4096, 1, None), memory_needed(facts(), 4096, 1, ONE_B)
    assert both.weights_bytes - alone.weights_bytes == ONE_B.size_bytes
    assert both.kv_bytes - alone.kv_bytes == 32_768 * 4096
    assert both.compute_bytes > alone.compute_bytes


def test_where_the_header_tells_too_little_the_file_size_stands_for_all() -> None:
    need = memory_needed(UNKNOWN, 32_768, 8, None)
    assert need.total_bytes == round(1.1 * UNKNOWN.size_bytes)
    assert auto_context(UNKNOWN, 2_200_000_000, 4, None) == CONTEXT_MIN
    assert auto_context(UNKNOWN, 2_100_000_000, 4, None) is None


def test_a_small_machine_gets_a_shorter_context_and_a_tiny_one_none() -> None:
    assert auto_context(facts(), 32 * GB, 4, None) == 32_768
    middle = auto_context(facts(), 4 * GB, 4, None)
    assert middle is not None
    assert CONTEXT_MIN < middle < 32_768
    assert auto_context(facts(), 2 * GB, 4, None) is None


def test_a_model_trained_for_less_than_the_minimum_serves_what_it_has() -> None:
    short = facts(context_train=512)
    assert auto_context(short, 16 * GB, 4, None) == 512
    assert fits(short, least_memory(short, 4), 4, None)


def test_an_untold_training_context_is_taken_for_the_minimum() -> None:
    assert auto_context(facts(context_train=0), 16 * GB, 1, None) == CONTEXT_MIN


def test_a_small_model_does_not_take_a_whole_machine_for_its_context() -> None:
    context = auto_context(ONE_B, 18 * GB, 4, None)
    assert context is not None
    assert CONTEXT_COMFORT <= context < ONE_B.context_train
    assert memory_needed(ONE_B, context, 4, None).total_bytes <= COMFORT_SHARE * 18 * GB


def test_a_large_machine_gives_the_whole_trained_context() -> None:
    assert auto_context(ONE_B, 80 * GB, 4, None) == 131_072


sizes = st.integers(1_000_000, 80 * GB)


@given(
    sizes, st.integers(1, 16), st.integers(0, 300_000), st.integers(0, 2_000_000), st.integers(0, 10**9),
    st.booleans(),
)  # fmt: skip
def test_the_auto_context_fits_is_the_largest_and_grows_with_memory(
    offered: int, parallel: int, trained: int, per_token: int, per_slot: int, drafted: bool
) -> None:
    model = facts(context_train=trained, kv_bytes_per_token=per_token, kv_bytes_per_slot=per_slot)
    draft = ONE_B if drafted else None
    context = auto_context(model, offered, parallel, draft)
    least = min(CONTEXT_MIN, trained or CONTEXT_MIN)
    assert (context is not None) == fits(model, offered, parallel, draft)
    if context is None:
        assert least_memory(model, parallel, draft) > offered
        return
    assert least <= context <= max(trained, least)
    assert fits(model, offered, parallel, draft, context)
    more = auto_context(model, offered * 2, parallel, draft)
    assert more is not None
    assert more >= context
    knows = per_token or per_slot
    if knows and context + CONTEXT_STEP <= min(trained, CONTEXT_COMFORT):
        assert not fits(model, offered, parallel, draft, context + CONTEXT_STEP)
