"""A folder's models are found, and read again only when they change."""

import os
from pathlib import Path

import pytest

from models_registry import scan as scan_module
from models_registry.demo.synthesize import synthesize
from models_registry.gguf_header import read_facts
from models_registry.scan import scan
from nodes.mesh.model_facts import ModelFacts
from tests.models_registry.gguf_bytes import header, llama, padded, write


@pytest.fixture(autouse=True)
def forget() -> None:
    scan_module._cache.clear()


GOOD = padded(header(llama()))


def names(folder: Path) -> list[str]:
    return [facts.name for facts in scan(folder).models]


def test_models_of_all_folders_are_listed_by_name_and_broken_ones_apart(tmp_path: Path) -> None:
    (tmp_path / "org" / "repo").mkdir(parents=True)
    write(tmp_path / "b.gguf", GOOD)
    write(tmp_path / "org" / "repo" / "A.GGUF", GOOD)
    write(tmp_path / "broken.gguf", b"<html>")
    write(tmp_path / "readme.txt", b"no model")
    found = scan(tmp_path)
    assert [facts.name for facts in found.models] == ["A", "b"]
    assert [bad.path.name for bad in found.bad] == ["broken.gguf"]


def test_projectors_later_shards_and_half_downloads_are_no_models(tmp_path: Path) -> None:
    synthesize(tmp_path / "set.gguf", shards=3)
    write(tmp_path / "mmproj-x.gguf", padded(header({"general.architecture": "clip"})))
    (tmp_path / ".downloads").mkdir()
    write(tmp_path / ".downloads" / "half.gguf", GOOD)
    found = scan(tmp_path)
    assert [facts.name for facts in found.models] == ["set"]
    assert found.bad == ()


def test_an_incomplete_set_is_told_once(tmp_path: Path) -> None:
    synthesize(tmp_path / "set.gguf", shards=3)
    (tmp_path / "set-00001-of-00003.gguf").unlink()
    found = scan(tmp_path)
    assert found.models == ()
    assert len(found.bad) == 1


def test_an_absent_folder_holds_nothing(tmp_path: Path) -> None:
    assert scan(tmp_path / "none") == scan_module.Scan((), ())


def test_headers_are_read_once_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.gguf", GOOD)
    reads: list[Path] = []

    def counted(path: Path) -> ModelFacts:
        reads.append(path)
        return read_facts(path)

    monkeypatch.setattr(scan_module, "read_facts", counted)
    assert names(tmp_path) == names(tmp_path) == ["m"]
    assert len(reads) == 1
    write(path, padded(header(llama(general__name="Changed"))))
    os.utime(path, ns=(1, 1))
    assert scan(tmp_path).models[0].title == "Changed"
    assert len(reads) == 2


def test_depth_and_count_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "1" / "2" / "3" / "4" / "5"
    deep.mkdir(parents=True)
    write(deep / "deep.gguf", GOOD)
    write(deep.parent / "fine.gguf", GOOD)
    assert names(tmp_path) == ["fine"]
    monkeypatch.setattr(scan_module, "ENTRIES_MAX", 2)
    assert names(tmp_path) == []


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    write(tmp_path / "m.gguf", GOOD)
    assert names(tmp_path) == ["m"]
