"""Decides whether a model fits into the memory offered, and how long its context may be.

The rule: weights + KV cache + compute buffers <= memory offered. Where the header tells too little
for the cache, 1.1 x the file's size stands for all three. PURE: knows facts and numbers, no machine.

Source: llama.cpp's own figures at load (`KV buffer size`, `compute buffer size`), which
tests/models_registry/test_fit_against_engine.py compares with what is computed here.
"""

from dataclasses import dataclass

from nodes.mesh.model_facts import ModelFacts

CONTEXT_MIN = 4096
"""Unit: tokens for each slot. Default of the product: a model that cannot have this much does not
"fit", unless it was trained for less. Below it a chat with a tool list overflows at once."""

CONTEXT_COMFORT = 32_768
"""Unit: tokens for each slot. Up to here the auto context takes all memory it needs; beyond, only
half of what is offered (`COMFORT_SHARE`). An agent's prompt with its tools has 10,000 to 25,000
tokens; a 1B model trained for 131,072 would otherwise reserve 17 GB on an 18 GB machine for contexts
hardly anyone fills, and leave nothing for a second model. `--ctx-size` overrides."""

COMFORT_SHARE = 0.5
"""Unit: share of the memory offered that a context above `CONTEXT_COMFORT` may bring the total to."""

CONTEXT_STEP = 1024
"""Unit: tokens. The auto context is a multiple of it (llama.cpp pads to 256), so that small changes
of free memory do not make a new plan."""

UNKNOWN_FACTOR = 1.1
"""Total over file size where the header tells too little (spec, "Election and split")."""

BATCH_TOKENS = 512
"""Unit: tokens computed at a time. llama-server's `--ubatch-size` default, which we do not change."""

ACTIVATION_ROWS = 16
"""Unit: f32 rows of the embedding's width for each token of a batch. Formula: fitted from above to
llama-server 0.7.0 (flash attention on): 13.3 at width 128, 15.0 at 768, 14.0 at 1792."""

F32_BYTES = 4
MASK_BYTES = 2
"""Unit: bytes for each pair (token of the batch, token of a slot's context): the f16 attention mask.
Seen: 26.52 -> 30.52 MiB for 4,096 more tokens of context, with 1 slot and with 4."""

ENGINE_BASE_BYTES = 48 * 1024 * 1024
"""Unit: bytes of the process itself: code, vocabulary, HTTP threads. Seen: 16 to 24 MiB resident over
the sum of the buffers; vocabularies of 150,000 tokens take some 20 more."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes a model needs while it is served, its draft included."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    total_bytes: int


def memory_needed(
    facts: ModelFacts, context: int, parallel: int, draft: ModelFacts | None
) -> MemoryNeed:
    """Return what serving takes with `context` tokens for each of `parallel` slots, draft included."""
    assert context > 0
    assert parallel > 0
    if not knows_cache(facts):
        weights = weights_bytes(facts) + (weights_bytes(draft) if draft else 0)
        total = round(weights * UNKNOWN_FACTOR)
        return MemoryNeed(weights, 0, total - weights, total)
    models = [facts] if draft is None else [facts, draft]
    weights = sum(weights_bytes(model) for model in models)
    kv = sum(_kv_bytes(model, context, parallel) for model in models)
    compute = ENGINE_BASE_BYTES + sum(_compute_bytes(model, context) for model in models)
    return MemoryNeed(weights, kv, compute, weights + kv + compute)


def knows_cache(facts: ModelFacts) -> bool:
    """Return whether the header told enough to compute the cache, rather than to guess by file size."""
    return bool(facts.layers and (facts.kv_bytes_per_token or facts.kv_bytes_per_slot))


def weights_bytes(facts: ModelFacts) -> int:
    """Return the bytes of the weights, a vision projector beside them included."""
    return facts.size_bytes + facts.mmproj_bytes


def _kv_bytes(facts: ModelFacts, context: int, parallel: int) -> int:
    return (facts.kv_bytes_per_token * context + facts.kv_bytes_per_slot) * parallel


def _compute_bytes(facts: ModelFacts, context: int) -> int:
    activations = (ACTIVATION_ROWS * facts.embedding_length + facts.vocab_size) * F32_BYTES
    return BATCH_TOKENS * (activations + MASK_BYTES * context)


def least_context(facts: ModelFacts) -> int:
    """Return the shortest context worth serving: 4,096 tokens, or the model's own limit where lower."""
    return min(CONTEXT_MIN, facts.context_train or CONTEXT_MIN)


def least_memory(facts: ModelFacts, parallel: int, draft: ModelFacts | None = None) -> int:
    """Return the fewest bytes with which the model can be served: what "need X, have Y" names as X."""
    return memory_needed(facts, least_context(facts), parallel, draft).total_bytes


def fits(
    facts: ModelFacts,
    offered_bytes: int,
    parallel: int,
    draft: ModelFacts | None,
    context: int | None = None,
) -> bool:
    """Return whether the model can be served; `context` None: with the least context worth serving."""
    need = memory_needed(facts, context or least_context(facts), parallel, draft)
    return need.total_bytes <= offered_bytes


def auto_context(
    facts: ModelFacts, offered_bytes: int, parallel: int, draft: ModelFacts | None
) -> int | None:
    """Return the tokens of context for each slot, or None when the model does not fit.

    The largest that fits, at least `least_context`, at most what the model was trained for; above
    `CONTEXT_COMFORT` only within `COMFORT_SHARE` of the memory. Where the cache's size is not known:
    the least context.
    """
    least = least_context(facts)
    if not fits(facts, offered_bytes, parallel, draft):
        return None
    if not knows_cache(facts):
        return least
    limit = facts.context_train or CONTEXT_MIN
    comfortable = _largest(facts, offered_bytes, parallel, draft, min(limit, CONTEXT_COMFORT))
    generous = _largest(facts, int(offered_bytes * COMFORT_SHARE), parallel, draft, limit)
    return max(least, comfortable, generous)


def _largest(
    facts: ModelFacts, offered_bytes: int, parallel: int, draft: ModelFacts | None, limit: int
) -> int:
    """Return the longest context within the bytes: `limit` itself, else a multiple of the step; 0: none."""
    if fits(facts, offered_bytes, parallel, draft, limit):
        return limit
    empty = memory_needed(facts, CONTEXT_STEP, parallel, draft).total_bytes
    one_more = memory_needed(facts, 2 * CONTEXT_STEP, parallel, draft).total_bytes - empty
    steps = (offered_bytes - empty) // one_more + 1  # the need is linear in the context
    return min(max(steps, 0) * CONTEXT_STEP, limit)
