"""Decides what a model can do and what it is called, from its GGUF header. PURE.

Texts in a header are untrusted: what goes on to people loses its control characters and has a bound.
"""

import re
from collections.abc import Mapping

from models_registry.gguf_parse import Counted, Header, Value
from nodes.mesh.model_facts import Capability

TITLE_CHARACTERS_MAX = 120

_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip
"""`general.file_type` (llama.cpp's llama_ftype) by the name that people know."""

_ENCODERS = frozenset(
    {
        *("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert"),
        *("neo-bert", "eurobert", "gemma-embedding", "t5encoder", "llama-embed"),
    }
)
"""Architectures that only make embeddings."""

_POOLING_NONE, _POOLING_RANK = 0, 4

_TOOLS = re.compile(r"\btools\b")
_REASONING = re.compile(
    r"<think>|</think>|\[THINK\]|<\|channel\|>|reasoning_content|enable_thinking|<seed:think>"
)


def text_of(values: Mapping[str, Value], key: str) -> str:
    """Return a text value, or an empty text when the key is absent or something else."""
    value = values.get(key, "")
    return value if isinstance(value, str) else ""


def number_of(values: Mapping[str, Value], key: str) -> int:
    """Return a non-negative whole number, 0 when absent or something else."""
    value = values.get(key, 0)
    return value if isinstance(value, int) and value > 0 else 0


def clean_title(text: str) -> str:
    """Return a header's text fit for one line: printable, single spaces, bounded."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * TITLE_CHARACTERS_MAX])
    return " ".join(printable.split())[:TITLE_CHARACTERS_MAX]


def vocabulary_size(values: Mapping[str, Value], architecture: str) -> int:
    """Return the number of tokens, 0 when the header does not say."""
    tokens = values.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Counted) and tokens.count:
        return tokens.count
    return number_of(values, f"{architecture}.vocab_size")


def quantisation(header: Header, bytes_by_type: Mapping[str, int]) -> str:
    """Return the file type by its usual name; without one, the type that most bytes have."""
    file_type = header.values.get("general.file_type")
    if isinstance(file_type, int) and file_type & 1023 in _FILE_TYPES:
        return _FILE_TYPES[file_type & 1023]
    return max(bytes_by_type, key=lambda name: bytes_by_type[name], default="")


def templates(values: Mapping[str, Value]) -> str:
    """Return all chat templates as one text; empty when there is none."""
    return "\n".join(
        value
        for key, value in values.items()
        if key.startswith("tokenizer.chat_template") and isinstance(value, str)
    )


def capabilities(
    architecture: str, values: Mapping[str, Value], *, projector: bool
) -> frozenset[Capability]:
    """Return what requests the model can answer; `projector`: a vision projector lies beside it.

    A model made for embeddings (by architecture, or a pooling type in the header) answers no chat.
    A model without a chat template does: llama-server then takes a common one.
    """
    pooling = values.get(f"{architecture}.pooling_type")
    if architecture in _ENCODERS or (isinstance(pooling, int) and pooling != _POOLING_NONE):
        return frozenset() if pooling == _POOLING_RANK else frozenset({Capability.EMBEDDINGS})
    found = {Capability.CHAT}
    template = templates(values)
    if _TOOLS.search(template):
        found.add(Capability.TOOLS)
    if _REASONING.search(template):
        found.add(Capability.REASONING)
    if projector:
        found.add(Capability.VISION)
    return frozenset(found)


def not_a_model(values: Mapping[str, Value]) -> str | None:
    """Return why a GGUF is no model that can be served by itself, or None when nothing speaks against it."""
    kind = text_of(values, "general.type")
    if kind == "mmproj" or text_of(values, "general.architecture") == "clip":
        return (
            "it is a vision projector (mmproj), not a model: give the model's own file,"
            " and leave this one beside it"
        )
    if kind == "adapter" or "adapter.type" in values:
        return "it is a LoRA adapter, not a model: give the base model's file"
    if kind == "imatrix" or "imatrix.chunk_count" in values:
        return "it is an importance matrix for quantising, not a model"
    return None
