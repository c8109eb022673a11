"""A well-known name means one file, or says which it could mean."""

import dataclasses
from pathlib import Path

import pytest

from models_registry.catalogue import AmbiguousName, UnknownName, draft_for, entries, lookup
from models_registry.download import split_spec
from models_registry.gguf_header import read_facts
from nodes.mesh.ids import ModelName


@pytest.mark.parametrize("name", ["Qwen2.5-3B", "Qwen2.5-32B", "GLM-4.7-Flash"])
def test_the_scenarios_names_resolve(name: str) -> None:
    assert lookup(name).name == name


def test_the_scenarios_stem_resolves() -> None:
    assert lookup("GLM-4.7-Flash-Q4_K_M").name == "GLM-4.7-Flash"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen2.5-3b", "Qwen2.5-3B"),
        ("glm", "GLM-4.7-Flash"),
        ("oss-20b", "gpt-oss-20b"),
        ("phi-4", "Phi-4"),
    ],
)
def test_case_and_parts_of_names_are_enough(name: str, expected: str) -> None:
    assert lookup(name).name == expected


def test_an_ambiguous_part_lists_the_choices() -> None:
    with pytest.raises(
        AmbiguousName, match=r"'coder' could be any of Qwen2\.5-Coder-7B, Qwen2\.5-Coder-32B"
    ):
        lookup("coder")


def test_an_unknown_name_offers_what_was_meant() -> None:
    with pytest.raises(UnknownName) as caught:
        lookup("Qwen2.5-3BB")
    assert "Qwen2.5-3B" in caught.value.near


def test_an_empty_name_is_unknown() -> None:
    with pytest.raises(UnknownName):
        lookup("")


def test_every_entry_is_well_formed() -> None:
    names = [entry.name for entry in entries()]
    stems = [entry.stem for entry in entries()]
    assert len(set(names)) == len(names)
    assert len(set(stems)) == len(stems)
    for entry in entries():
        assert split_spec(entry.spec) == (entry.repo, entry.file)
        assert entry.draft is None or entry.draft in names
        assert 10**8 < entry.size_bytes < 10**12
        assert entry.context >= 2048
        assert entry.capabilities
        if entry.draft:
            assert lookup(entry.draft).size_bytes < entry.size_bytes / 2


def test_a_draft_on_disk_is_paired_when_its_vocabulary_matches(
    tiny_model: Path, draft_model: Path
) -> None:
    model = dataclasses.replace(read_facts(tiny_model), name=lookup("Qwen2.5-3B").stem)
    draft = dataclasses.replace(read_facts(draft_model), name=lookup("Qwen2.5-0.5B").stem)
    other = dataclasses.replace(draft, name=ModelName("other"))
    assert draft_for(model, (other, draft)) == draft
    assert draft_for(model, (other,)) is None
    assert (
        draft_for(model, (dataclasses.replace(draft, vocab_size=draft.vocab_size + 500),)) is None
    )
    assert draft_for(other, (draft,)) is None


def test_pairs_are_known_in_every_quantisation(tiny_model: Path, draft_model: Path) -> None:
    model = dataclasses.replace(read_facts(tiny_model), name=ModelName("Qwen2.5-3B-Instruct-Q8_0"))
    small = read_facts(draft_model)
    own = dataclasses.replace(small, name=lookup("Qwen2.5-0.5B").stem, size_bytes=400)
    large, little = (
        dataclasses.replace(small, name=ModelName(f"Qwen2.5-0.5B-Instruct-{q}"), size_bytes=size)
        for q, size in (("f16", 900), ("Q3_K_M", 300))
    )
    assert draft_for(model, (large, little)) == little
    assert draft_for(model, (large, little, own)) == own
    assert draft_for(model, (dataclasses.replace(little, vocab_size=1),)) is None
