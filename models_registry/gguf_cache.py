"""Decides how much cache one token of context, and one slot, takes: from a GGUF header's numbers. PURE.

All figures are at f16, llama-server's default cache type. Where the header tells too little the
answer is None, and the fit falls back to the file's size (`nodes.mesh.fit`).

Source: llama.cpp's cache classes: plain attention keeps K and V of every KV head of a layer;
multi-head latent attention (DeepSeek, GLM-4.7-Flash) keeps one latent row, of which V is a view;
sliding-window layers keep their window plus one batch; recurrent layers keep a state in f32.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from models_registry.gguf_parse import Value

F16_BYTES = 2
F32_BYTES = 4
BATCH_TOKENS = 512
"""llama-server's physical batch (`--ubatch-size`), which a sliding window is padded by."""
LAYERS_MAX = 4096
"""More is no known model; bounds the loops over layers."""

_WINDOW_PERIOD = {
    # Every n-th layer attends to everything, the others to a window. Only where llama.cpp fixes the
    # pattern by architecture: a header with `sliding_window_pattern` speaks for itself.
    "gemma2": 2, "gemma3": 6, "gemma-embedding": 6, "gpt-oss": 2, "cohere2": 4, "gemma3n": 5,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Bytes of cache at f16."""

    per_token: int
    per_slot: int


def cache_size(architecture: str, values: Mapping[str, Value]) -> CacheSize | None:
    """Return the cache's size, or None when the header tells too little."""
    keys = _Keys(architecture, values)
    layers = keys.number("block_count") - keys.number("nextn_predict_layers")
    layers -= keys.number("attention.shared_kv_layers")
    if not 0 < layers <= LAYERS_MAX or not keys.number("attention.head_count", each=True):
        return None
    rows = [_row_bytes(keys, layer) for layer in range(layers)]
    if None in rows:
        return None
    return _sum(keys, [row or 0 for row in rows])


def _sum(keys: "_Keys", rows: list[int]) -> CacheSize | None:
    recurrent = keys.has_prefix("ssm.") or keys.has_prefix("wkv.")
    interval = keys.number("full_attention_interval")
    state = _state_bytes(keys) if recurrent else 0
    if recurrent and (state == 0 or (not interval and 0 not in rows)):
        return None  # which layers are recurrent is not told
    window = keys.number("attention.sliding_window")
    windowed = _windowed_layers(keys, len(rows)) if window else frozenset[int]()
    per_token = per_slot = 0
    for layer, row in enumerate(rows):
        if recurrent and (row == 0 or (interval and (layer + 1) % interval)):
            per_slot += state
        elif layer in windowed:
            per_slot += row * (window + BATCH_TOKENS)
        else:
            per_token += row
    return CacheSize(per_token, per_slot)


class _Keys:
    """A header's numbers under its architecture's prefix."""

    def __init__(self, architecture: str, values: Mapping[str, Value]) -> None:
        self._architecture = architecture
        self._values = values

    def has_prefix(self, prefix: str) -> bool:
        """Return whether the header has any key of a group."""
        return any(key.startswith(f"{self._architecture}.{prefix}") for key in self._values)

    def array(self, name: str) -> tuple[int, ...] | None:
        """Return a per-layer list, or None when the key is absent or a single number."""
        value = self._values.get(f"{self._architecture}.{name}")
        return tuple(int(item) for item in value) if isinstance(value, tuple) else None

    def number(self, name: str, *, each: bool = False) -> int:
        """Return a non-negative number, 0 when absent; of a per-layer list (`each`) the largest."""
        value = self._values.get(f"{self._architecture}.{name}", 0)
        if isinstance(value, tuple) and each:
            return max((int(item) for item in value), default=0)
        return value if isinstance(value, int) and value > 0 else 0

    def at(self, name: str, layer: int) -> int | None:
        """Return a layer's number, from a list or one number for all; None when absent."""
        value = self._values.get(f"{self._architecture}.{name}")
        if isinstance(value, tuple):
            return max(int(value[layer]), 0) if layer < len(value) else None
        return value if isinstance(value, int) and value >= 0 else None


def _row_bytes(keys: _Keys, layer: int) -> int | None:
    """Return the bytes of one token in one layer; 0: no attention there; None: not told."""
    if keys.number("attention.kv_lora_rank") and keys.number("attention.key_length_mla"):
        return keys.number("attention.key_length") * F16_BYTES or None
    heads = keys.at("attention.head_count", layer)
    kv_heads = keys.at("attention.head_count_kv", layer)
    if kv_heads is None:
        kv_heads = heads
    if heads is None or kv_heads is None:
        return None
    if kv_heads == 0:
        return 0
    default = keys.number("embedding_length") // heads if heads else 0
    windowed = layer in _windowed_layers(keys, layer + 1)
    key = (keys.number("attention.key_length_swa") if windowed else 0) or (
        keys.number("attention.key_length") or default
    )
    value = (keys.number("attention.value_length_swa") if windowed else 0) or (
        keys.number("attention.value_length") or default
    )
    return kv_heads * (key + value) * F16_BYTES or None


def _windowed_layers(keys: _Keys, layers: int) -> frozenset[int]:
    """Return the layers that see a window only; none when the pattern is not known (an upper bound)."""
    listed = keys.array("attention.sliding_window_pattern")
    if listed is not None:
        return frozenset(layer for layer, flag in enumerate(listed[:layers]) if flag)
    period = keys.number("attention.sliding_window_pattern") or _WINDOW_PERIOD.get(
        keys._architecture, 0
    )
    if not period or not keys.number("attention.sliding_window"):
        return frozenset()
    return frozenset(layer for layer in range(layers) if layer % period < period - 1)


def _state_bytes(keys: _Keys) -> int:
    """Return the bytes of one recurrent layer's state for one slot; 0 when the header does not tell."""
    kernel, inner = keys.number("ssm.conv_kernel"), keys.number("ssm.inner_size")
    size, groups = keys.number("ssm.state_size"), keys.number("ssm.group_count")
    if not (kernel and inner and size):
        return 0
    return F32_BYTES * ((kernel - 1) * (inner + 2 * groups * size) + size * inner)
