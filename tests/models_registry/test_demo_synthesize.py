"""Test models: any size, reproducible, and no two layers alike."""

import hashlib
import itertools
from pathlib import Path

import gguf
import pytest

from models_registry.demo.synthesize import PRESETS, synthesize
from models_registry.gguf_header import read_facts
from nodes.mesh.model_facts import Capability


def test_the_same_seed_gives_the_same_file_and_another_does_not(tmp_path: Path) -> None:
    first, same, other = (
        synthesize(tmp_path / f"{number}.gguf", "draft", seed=seed, name="n").read_bytes()
        for number, seed in enumerate((1, 1, 2))
    )
    assert first == same
    assert first != other


@pytest.mark.parametrize("preset", ["tiny", pytest.param("big200", marks=pytest.mark.slow)])
def test_no_two_tensors_are_alike_where_a_wrong_layer_would_go_unnoticed(
    tmp_path: Path, preset: str
) -> None:
    path = synthesize(tmp_path / "m.gguf", preset, layers=4)
    digests = [
        hashlib.sha256(tensor.data.tobytes()).hexdigest()
        for tensor in gguf.GGUFReader(path).tensors
        if "norm" not in tensor.name
    ]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("preset", ["tiny", "draft", "embed"])
def test_a_preset_has_the_sizes_it_names(tmp_path: Path, preset: str) -> None:
    sizes, facts = PRESETS[preset], read_facts(synthesize(tmp_path / "m.gguf", preset))
    assert (facts.layers, facts.embedding_length, facts.context_train) == (
        sizes.layers,
        sizes.width,
        sizes.context,
    )
    assert (
        facts.kv_bytes_per_token
        == sizes.layers * 2 * sizes.width // sizes.heads * sizes.kv_heads * 2
    )
    kind = Capability.EMBEDDINGS if sizes.pooling else Capability.CHAT
    assert facts.capabilities == {kind}


def test_all_presets_share_one_vocabulary(tmp_path: Path) -> None:
    vocabularies = [
        read_facts(synthesize(tmp_path / f"{preset}.gguf", preset, layers=1)).vocab_size
        for preset in ("tiny", "draft")
    ]
    assert all(first == second for first, second in itertools.pairwise(vocabularies))


def test_sizes_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="width must divide by heads"):
        synthesize(tmp_path / "m.gguf", heads=5)
