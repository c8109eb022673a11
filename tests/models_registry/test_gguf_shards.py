"""A sharded model is one model, whichever part is given; an incomplete or mixed set is refused."""

import shutil
from pathlib import Path

import pytest

from models_registry.demo.synthesize import synthesize
from models_registry.gguf_header import BadModelFile, read_facts
from models_registry.shards import model_stem, shard_name


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Return the three parts of one model."""
    synthesize(tmp_path / "Big-Q8_0.gguf", shards=3, name="big")
    return sorted(tmp_path.iterdir())


def test_any_part_leads_to_the_whole(parts: list[Path]) -> None:
    facts = [read_facts(part) for part in parts]
    assert facts[0] == facts[1] == facts[2]
    assert facts[0].name == "Big-Q8_0"
    assert facts[0].path == str(parts[0])
    assert facts[0].shards == tuple(str(part) for part in parts)
    assert facts[0].size_bytes == sum(part.stat().st_size for part in parts)


def test_the_parts_have_what_the_whole_file_has(parts: list[Path], tmp_path: Path) -> None:
    whole = read_facts(synthesize(tmp_path / "whole" / "Big-Q8_0.gguf", name="big"))
    split = read_facts(parts[0])
    for field in (
        "parameters",
        "layers",
        "vocab_size",
        "kv_bytes_per_token",
        "capabilities",
        "quantisation",
    ):
        assert getattr(whole, field) == getattr(split, field), field


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[1].unlink()
    for part in (parts[0], parts[2]):
        with pytest.raises(BadModelFile, match=r"Big-Q8_0-00002-of-00003\.gguf is not beside it"):
            read_facts(part)


def test_swapped_parts_are_noticed(parts: list[Path], tmp_path: Path) -> None:
    shutil.move(parts[1], tmp_path / "x")
    shutil.move(parts[2], parts[1])
    shutil.move(tmp_path / "x", parts[2])
    with pytest.raises(BadModelFile, match="its name says part 2 of 3, its header part 3 of 3"):
        read_facts(parts[0])


def test_a_part_of_another_model_is_noticed(parts: list[Path], tmp_path: Path) -> None:
    synthesize(tmp_path / "other" / "x.gguf", shards=3, layers=5)
    shutil.copy(tmp_path / "other" / "x-00002-of-00003.gguf", parts[1])
    with pytest.raises(BadModelFile, match="does not belong to the same set"):
        read_facts(parts[0])


def test_a_part_cut_off_is_named(parts: list[Path]) -> None:
    parts[2].write_bytes(parts[2].read_bytes()[:-64])
    with pytest.raises(
        BadModelFile, match=r"Big-Q8_0-00003-of-00003\.gguf cannot be used: it is cut off"
    ):
        read_facts(parts[0])


def test_a_renamed_part_says_how_to_name_it(parts: list[Path], tmp_path: Path) -> None:
    renamed = parts[1].rename(tmp_path / "renamed.gguf")
    with pytest.raises(
        BadModelFile, match=r"part 2 of 3 under another name.*STEM-00002-of-00003\.gguf"
    ):
        read_facts(renamed)


def test_a_whole_file_named_like_a_part_is_refused(tmp_path: Path) -> None:
    path = synthesize(tmp_path / "solo.gguf").rename(tmp_path / "solo-00001-of-00001.gguf")
    with pytest.raises(BadModelFile, match="its name says part 1 of 1"):
        read_facts(path)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("A-Q4_K_M.gguf", "A-Q4_K_M"),
        ("A-Q4_K_M-00002-of-00009.gguf", "A-Q4_K_M"),
        ("A.GGUF", "A"),
        ("A-00000-of-00002.gguf", "A-00000-of-00002"),
        ("A-00003-of-00002.gguf", "A-00003-of-00002"),
        ("A.v1.gguf", "A.v1"),
    ],
)
def test_a_models_id_is_its_stem(name: str, stem: str) -> None:
    assert model_stem(name) == stem


def test_a_claim_of_too_many_parts_is_no_shard_name() -> None:
    assert shard_name("x-00001-of-99999.gguf") is None
