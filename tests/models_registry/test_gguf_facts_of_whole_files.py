"""A whole model file is read: its facts are those that the gguf library finds in it."""

import subprocess
import sys
import time
from pathlib import Path

import gguf
import pytest

from models_registry.demo.synthesize import synthesize
from models_registry.gguf_facts import _FILE_TYPES
from models_registry.gguf_header import read_facts
from models_registry.gguf_parse import Counted, parse
from models_registry.gguf_types import TENSOR_BLOCKS
from nodes.mesh.model_facts import Capability


def test_facts_agree_with_the_gguf_library(tiny_model: Path) -> None:
    facts, oracle = read_facts(tiny_model), gguf.GGUFReader(tiny_model)

    def number(key: str) -> int:
        return int(oracle.fields[key].contents())

    assert (facts.name, facts.architecture, facts.title) == ("tiny", "llama", "tiny")
    assert facts.layers == number("llama.block_count")
    assert facts.context_train == number("llama.context_length")
    assert facts.embedding_length == number("llama.embedding_length")
    assert facts.vocab_size == len(oracle.fields["tokenizer.ggml.tokens"].data)
    assert facts.parameters == sum(int(tensor.n_elements) for tensor in oracle.tensors)
    assert facts.size_bytes == tiny_model.stat().st_size
    assert facts.shards == (str(tiny_model),)
    assert facts.quantisation == "F16"
    assert facts.chat_template
    assert facts.capabilities == {Capability.CHAT}


def test_every_kept_value_and_tensor_name_agrees_with_the_gguf_library(tiny_model: Path) -> None:
    oracle = gguf.GGUFReader(tiny_model)
    with tiny_model.open("rb") as file:
        header = parse(file, tiny_model.stat().st_size)
    assert set(header.values) == {key for key in oracle.fields if not key.startswith("GGUF.")}
    for key, found in header.values.items():
        expected = oracle.fields[key].contents()
        if isinstance(found, Counted):
            assert found.count == len(expected)
        elif isinstance(found, tuple):
            assert list(found) == pytest.approx(expected)
        else:
            assert (
                found == pytest.approx(expected) if isinstance(found, float) else found == expected
            )
    assert header.tensor_names == {tensor.name for tensor in oracle.tensors}
    assert header.needed_bytes == max(int(t.data_offset) + int(t.n_bytes) for t in oracle.tensors)


def test_tables_of_types_agree_with_the_gguf_library() -> None:
    ours = {name: (per_block, size) for name, per_block, size in TENSOR_BLOCKS.values()}
    assert ours == {kind.name: sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {number: name for number, (name, _, _) in TENSOR_BLOCKS.items()} == {
        kind.value: kind.name for kind in gguf.GGMLQuantizationType if kind in gguf.GGML_QUANT_SIZES
    }
    theirs = {kind.value: kind.name for kind in gguf.LlamaFileType if kind.name != "GUESSED"}
    named = {
        value: name.removeprefix("ALL_").removeprefix("MOSTLY_") for value, name in theirs.items()
    }
    assert named == _FILE_TYPES


def test_equal_files_have_equal_fingerprints_and_others_do_not(
    tmp_path: Path, tiny_model: Path
) -> None:
    same = read_facts(synthesize(tmp_path / "again.gguf", "tiny", name="tiny"))
    other = read_facts(synthesize(tmp_path / "other.gguf", "tiny", name="other"))
    assert same.fingerprint == read_facts(tiny_model).fingerprint
    assert other.fingerprint != same.fingerprint


def test_reading_a_vocabulary_of_150000_tokens_is_fast(tmp_path: Path) -> None:
    path = tmp_path / "wide.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list([f"token{number}".encode() for number in range(150_000)])
    writer.add_token_merges([f"tok en{number}" for number in range(150_000)])
    writer.add_token_types([1] * 150_000)
    writer.add_token_scores([0.5] * 150_000)
    import numpy as np

    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    began = time.process_time()
    facts = read_facts(path)
    assert facts.vocab_size == 150_000
    assert (
        time.process_time() - began < 0.5
    )  # about 0.06 s of CPU here; the gguf library takes seconds


def test_reading_imports_neither_numpy_nor_gguf(tiny_model: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from models_registry.gguf_header import read_facts;"
        f"read_facts(Path({str(tiny_model)!r}));"
        "print([name for name in ('numpy', 'gguf', 'huggingface_hub', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
