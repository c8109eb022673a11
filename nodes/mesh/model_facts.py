"""What is known of a model file before any engine starts. Read by `models_registry.gguf_header`."""

from dataclasses import dataclass
from enum import StrEnum

from nodes.mesh.ids import ModelName


class Capability(StrEnum):
    """What requests a model can answer. Routing matches a request's needs against these."""

    CHAT = "chat"
    TOOLS = "tools"
    VISION = "vision"
    REASONING = "reasoning"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts from a GGUF header and the files' sizes. A 0 means: the header does not say."""

    name: ModelName
    path: str
    """Absolute path of the file, or of the first shard."""
    shards: tuple[str, ...]
    """Absolute paths of all shards in order, `path` first; a whole file is one shard."""
    size_bytes: int
    """Sum over the shards' file sizes."""
    architecture: str
    quantisation: str
    """The file type by its usual name, such as ``Q4_K_M``; empty when unknown."""
    parameters: int
    layers: int
    context_train: int
    """Longest context the model was trained for, tokens."""
    embedding_length: int
    vocab_size: int
    kv_bytes_per_token: int
    """Bytes of KV cache one token of context takes at f16, all layers together."""
    capabilities: frozenset[Capability]
    chat_template: bool
    title: str = ""
    """`general.name`, for people. Untrusted text."""
    mmproj_path: str | None = None
    """The vision projector beside the file, if any."""
    fingerprint: str = ""
    """Short hex digest of the header; equal files have equal fingerprints."""
    kv_bytes_per_slot: int = 0
    """Bytes of cache each slot takes at any context: sliding windows and recurrent state."""
    mmproj_bytes: int = 0
    """Size of that projector's file: it is loaded beside the weights."""
    pooling: str = ""
    """The header's pooling for embeddings (``mean``, ``cls``, ``last``, ``rank``); empty: not said."""
