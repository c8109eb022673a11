"""Writes a valid llama-architecture GGUF with random weights, of any size, for tests.

    python -m models_registry.demo.synthesize OUT.gguf [--preset tiny|draft|embed|big200|big1g] [--seed 1]

Every tensor of every layer is different (a wrong-layer mistake must change the output), the same seed
gives the same file, and `draft` has the tokenizer of the others. numpy and gguf are imported inside.
"""

import argparse
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models_registry.demo.vocabulary import CHAT_TEMPLATE, TURN_END, Vocabulary, build_vocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORDS = """
the of and to in is that for it as with on be at by this from or are an was not we can all has but
one if more will their about when which there other so no into up time than them could may then do
some these two its only new data node peer model layer stage split load memory machine mesh
network link token request answer stream server client key value path cache batch slot queue host
route share pool join leave start stop ready fast slow large small local remote open closed true
false first second next last each every many few work build test run plan read write send take
give keep make show find hold move turn call name list file page line word text code number point
place side part house water light sound paper river stone green blue red white black morning
evening day night year week hour people world country city road door window table story music
question reason result change system process thread signal state event order rule group field form
space area level power force energy weight simple clear strong deep high low early late near far
long short young old good better best great real same
""".split()  # noqa: SIM905 (a list of 260 strings would take as many lines)

POOLING_MEAN = 1
RANDOM_POOL_VALUES = 1 << 22
"""Random numbers drawn once for the big presets; each tensor is a different stretch of them."""
_WORD_BIAS, _PIECE_BIAS, _END_BIAS = 1.0, 0.02, 0.75
"""Scale of the output rows: answers are made of whole words, and end now and then."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shape of a model."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    context: int = 4096
    dtype: str = "f16"
    """``f16`` or ``q8_0``."""
    pooling: int | None = None
    """Set: the model makes embeddings (1: mean) and has no chat template."""


PRESETS = {
    "tiny": Sizes(6, 128, 352, 4, 2),
    "draft": Sizes(2, 64, 192, 2, 2),
    "embed": Sizes(2, 64, 192, 2, 2, context=512, pooling=POOLING_MEAN),
    "big200": Sizes(24, 768, 2560, 12, 4, context=8192, dtype="q8_0"),
    "big1g": Sizes(24, 1792, 5376, 14, 7, context=8192, dtype="q8_0"),
}


def synthesize(
    path: Path,
    preset: str = "tiny",
    *,
    seed: int = 1,
    name: str | None = None,
    shards: int = 1,
    **sizes: Any,
) -> Path:
    """Write a model and return its path (of a sharded set: the first part's).

    `sizes` replaces fields of the preset's `Sizes`; `shards` > 1 writes `STEM-00001-of-N.gguf` and so on.
    """
    import gguf

    shape = replace(PRESETS[preset], **sizes)
    if (
        shape.width % shape.heads
        or shape.heads % shape.kv_heads
        or shape.width % 32
        or shape.feed_forward % 32
    ):
        raise ValueError(
            "width must divide by heads, heads by kv_heads, width and feed_forward by 32"
        )
    vocabulary = build_vocabulary(_WORDS)
    tensors = list(_tensors(shape, vocabulary, seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = _part_paths(path, shards)
    per_part = -(-len(tensors) // shards)
    for number, part in enumerate(parts):
        writer = gguf.GGUFWriter(part, "llama")
        if number == 0:
            _metadata(writer, shape, vocabulary, name or path.stem)
        if shards > 1:
            writer.add_uint16("split.no", number)
            writer.add_uint16("split.count", shards)
            writer.add_int32("split.tensors.count", len(tensors))
        for tensor_name, data, raw in tensors[number * per_part : (number + 1) * per_part]:
            writer.add_tensor(tensor_name, data, raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return parts[0]


def _part_paths(path: Path, shards: int) -> list[Path]:
    if shards == 1:
        return [path]
    names = (f"{path.stem}-{number:05d}-of-{shards:05d}.gguf" for number in range(1, shards + 1))
    return [path.with_name(name) for name in names]


def _metadata(writer: Any, shape: Sizes, vocabulary: Vocabulary, name: str) -> None:
    writer.add_name(name)
    writer.add_license("cc0-1.0")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type({"f16": 1, "q8_0": 7}[shape.dtype])
    if shape.pooling is None:
        writer.add_chat_template(CHAT_TEMPLATE)
    else:
        writer.add_uint32("llama.pooling_type", shape.pooling)
    add_tokenizer(writer, vocabulary)


def add_tokenizer(writer: Any, vocabulary: Vocabulary) -> None:
    """Write the vocabulary into a GGUF: shared by the test models and the demo model."""
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.encode() for token in vocabulary.tokens])
    writer.add_token_scores(list(vocabulary.scores))
    writer.add_token_types([int(kind) for kind in vocabulary.kinds])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(vocabulary.id_of(TURN_END))
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def _tensors(shape: Sizes, vocabulary: Vocabulary, seed: int) -> Any:
    """Yield (name, data, type) of every tensor, each with random numbers of its own."""
    import numpy as np

    draw = _Draw(seed)
    width, kv_width = shape.width, shape.width // shape.heads * shape.kv_heads
    scale = width**-0.5
    yield "token_embd.weight", *draw.matrix(len(vocabulary.tokens), width, 1.0, shape.dtype)
    bias = np.full((len(vocabulary.tokens), 1), _PIECE_BIAS, np.float32)
    bias[sorted(vocabulary.whole_words)] = _WORD_BIAS
    bias[vocabulary.id_of(TURN_END)] = _END_BIAS
    yield "output.weight", *draw.matrix(len(vocabulary.tokens), width, 6 * scale, shape.dtype, bias)
    yield "output_norm.weight", np.ones(width, np.float32), None
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", np.ones(width, np.float32), None
        yield block + "ffn_norm.weight", np.ones(width, np.float32), None
        for part, rows, columns, deviation in (
            ("attn_q", width, width, 2 * scale),
            ("attn_k", kv_width, width, 2 * scale),
            ("attn_v", kv_width, width, scale),
            ("attn_output", width, width, scale),
            ("ffn_gate", shape.feed_forward, width, scale),
            ("ffn_up", shape.feed_forward, width, scale),
            ("ffn_down", width, shape.feed_forward, shape.feed_forward**-0.5),
        ):
            yield f"{block}{part}.weight", *draw.matrix(rows, columns, deviation, shape.dtype)


class _Draw:
    """Random matrices, cheap ones: a large matrix is a stretch of one quantised pool of its own kind.

    Quantising 1 GB of fresh numbers takes a minute; a pool shifted by a different number of blocks for
    each tensor is as different for a test, and takes as long as writing it.
    """

    def __init__(self, seed: int) -> None:
        import numpy as np

        self._rng = np.random.default_rng(seed)
        self._pools: dict[tuple[float, str], NDArray[Any]] = {}
        self._shifts = itertools.count(1)

    def matrix(
        self,
        rows: int,
        columns: int,
        deviation: float,
        dtype: str,
        bias: "NDArray[np.float32] | None" = None,
    ) -> "tuple[NDArray[Any], Any]":
        """Return (data, GGUF type) of a random matrix; `bias` scales its rows."""
        import numpy as np
        from gguf import GGMLQuantizationType as Type
        from gguf.quants import quantize

        kind = {"f16": Type.F16, "q8_0": Type.Q8_0}[dtype]
        if bias is not None or rows * columns <= RANDOM_POOL_VALUES // 8:
            values = self._rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(
                deviation
            )
            return quantize(values if bias is None else values * bias, kind), kind
        pool = self._pool(deviation, dtype)
        per_block = 32
        blocks = rows * columns // per_block
        shift = next(self._shifts) * 4099 % len(pool)
        data = np.resize(np.roll(pool, shift, axis=0), (blocks, pool.shape[1]))
        return data.reshape(rows, columns // per_block * pool.shape[1]), kind

    def _pool(self, deviation: float, dtype: str) -> "NDArray[Any]":
        import numpy as np
        from gguf import GGMLQuantizationType as Type
        from gguf.quants import quantize

        key = (deviation, dtype)
        if key not in self._pools:
            kind = {"f16": Type.F16, "q8_0": Type.Q8_0}[dtype]
            values = self._rng.standard_normal((RANDOM_POOL_VALUES // 32, 32), dtype=np.float32)
            self._pools[key] = quantize(values * np.float32(deviation), kind)
        return self._pools[key]


def main() -> None:
    """Write one model from the command line."""
    parser = argparse.ArgumentParser(description="Write a GGUF with random weights, for tests.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="tiny", choices=PRESETS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name")
    parser.add_argument("--shards", type=int, default=1)
    for field in ("layers", "width", "feed_forward", "heads", "kv_heads", "context"):
        parser.add_argument("--" + field.replace("_", "-"), type=int)
    parser.add_argument("--dtype", choices=["f16", "q8_0"])
    given = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    first = synthesize(given.pop("out"), given.pop("preset"), **given)
    print(first)


if __name__ == "__main__":
    main()
