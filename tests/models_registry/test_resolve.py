"""What `--model X` means, in the order of the specification."""

import shutil
from pathlib import Path

import pytest

from models_registry import resolve as resolve_module
from models_registry.catalogue import lookup
from models_registry.demo import demo_path
from models_registry.gguf_header import BadModelFile
from models_registry.progress import OnProgress, Progress, ignore
from models_registry.resolve import ModelNotFound, ResolvedModel, resolve
from tests.models_registry.gguf_bytes import header, llama, padded, write

GOOD = padded(header(llama()))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """Return what was asked of the hub; a fetch lands at once."""
    asked: list[tuple[str, str, str | None]] = []

    def fetch(
        repo: str,
        file: str,
        models_dir: Path,
        on_progress: OnProgress,
        *,
        mmproj: str | None = None,
    ) -> Path:
        asked.append((repo, file, mmproj))
        return write(models_dir / Path(file).name, GOOD)

    monkeypatch.setattr(resolve_module, "fetch", fetch)
    return asked


def name_of(spec: str, folder: Path, *, allow_download: bool = True) -> str:
    return resolve(
        spec, models_dir=folder, on_progress=ignore, allow_download=allow_download
    ).facts.name


def test_a_path_is_taken_as_it_is(tmp_path: Path, tiny_model: Path, fetched: list) -> None:
    assert name_of(str(tiny_model), tmp_path) == "tiny"
    assert fetched == []


def test_a_relative_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "here.gguf", GOOD)
    monkeypatch.chdir(tmp_path)
    assert name_of("here.gguf", tmp_path / "none") == "here"


def test_the_demo_has_a_name(tmp_path: Path) -> None:
    assert name_of("demo", tmp_path) == demo_path().stem


@pytest.mark.parametrize(
    "spec", ["My-Model-Q4_K_M", "my-model-q4_k_m", "My-Model-Q4_K_M.gguf", "My-Mo"]
)
def test_a_stem_in_the_models_folder_is_found(tmp_path: Path, spec: str) -> None:
    write(tmp_path / "My-Model-Q4_K_M.gguf", GOOD)
    assert name_of(spec, tmp_path) == "My-Model-Q4_K_M"


def test_an_ambiguous_beginning_lists_the_choices(tmp_path: Path) -> None:
    write(tmp_path / "Mine-1.gguf", GOOD)
    write(tmp_path / "Mine-2.gguf", GOOD)
    with pytest.raises(ModelNotFound, match=r"could be any of Mine-1, Mine-2"):
        name_of("Mine", tmp_path)


def test_a_catalogue_name_on_disk_wins_over_a_download(tmp_path: Path, fetched: list) -> None:
    stem = lookup("Qwen2.5-3B").stem
    write(tmp_path / f"{stem}.gguf", GOOD)
    assert name_of("Qwen2.5-3B", tmp_path) == stem
    assert fetched == []


def test_the_same_model_in_another_quantisation_on_disk_wins_too(
    tmp_path: Path, fetched: list
) -> None:
    write(tmp_path / "Qwen2.5-3B-Instruct-Q8_0.gguf", GOOD)
    assert name_of("Qwen2.5-3B", tmp_path) == "Qwen2.5-3B-Instruct-Q8_0"
    assert fetched == []


def test_another_model_whose_name_begins_alike_does_not(tmp_path: Path, fetched: list) -> None:
    write(tmp_path / "phi-4-mini-instruct-Q4_K_M.gguf", GOOD)
    assert name_of("Phi-4", tmp_path) == "phi-4-Q4_K_M"
    assert fetched == [("bartowski/phi-4-GGUF", "phi-4-Q4_K_M.gguf", None)]


def test_a_catalogue_name_is_downloaded_with_its_projector(tmp_path: Path, fetched: list) -> None:
    folder = tmp_path / "new" / "models"
    assert name_of("gemma-3-4b", folder) == "gemma-3-4b-it-Q4_K_M"
    assert fetched == [
        ("ggml-org/gemma-3-4b-it-GGUF", "gemma-3-4b-it-Q4_K_M.gguf", "mmproj-model-f16.gguf")
    ]


def test_a_file_of_the_hub_is_downloaded_and_then_taken_from_disk(
    tmp_path: Path, fetched: list
) -> None:
    for _ in range(2):
        assert name_of("org/repo/sub/file.gguf", tmp_path) == "file"
    assert fetched == [("org/repo", "sub/file.gguf", None)]


def test_without_download_it_says_how_to_fetch(tmp_path: Path, fetched: list) -> None:
    with pytest.raises(ModelNotFound, match=r"`mesh-llm download Qwen2.5-3B`"):
        name_of("Qwen2.5-3B", tmp_path, allow_download=False)
    assert fetched == []


def test_an_unknown_name_lists_near_misses_of_disk_and_catalogue(tmp_path: Path) -> None:
    write(tmp_path / "My-Model.gguf", GOOD)
    with pytest.raises(ModelNotFound, match=r"Did you mean My-Model") as caught:
        name_of("My-Modle", tmp_path)
    assert "mesh-llm models" in str(caught.value)
    with pytest.raises(ModelNotFound, match=r"Did you mean .*Qwen2\.5-3B"):
        name_of("Qwen2.5-3BB", tmp_path)


def test_an_ambiguous_catalogue_name_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"Qwen3-0.6B, Qwen3-1.7B"):
        name_of("Qwen3", tmp_path)


def test_a_broken_file_of_that_name_is_told_and_not_hidden_by_a_download(
    tmp_path: Path, fetched: list
) -> None:
    write(tmp_path / f"{lookup('Qwen2.5-3B').stem}.gguf", b"<html>")
    with pytest.raises(BadModelFile, match=r"web page"):
        name_of("Qwen2.5-3B", tmp_path)
    assert fetched == []


def test_a_path_that_is_not_there_is_told_as_a_path(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match=r"no such file"):
        name_of(str(tmp_path / "none.gguf"), tmp_path)


def test_a_draft_on_disk_comes_with_the_model(
    tmp_path: Path, tiny_model: Path, draft_model: Path
) -> None:
    shutil.copy(tiny_model, tmp_path / f"{lookup('Qwen2.5-3B').stem}.gguf")
    shutil.copy(draft_model, tmp_path / f"{lookup('Qwen2.5-0.5B').stem}.gguf")
    seen: list[Progress] = []
    found = resolve("Qwen2.5-3B", models_dir=tmp_path, on_progress=seen.append)
    assert isinstance(found, ResolvedModel)
    assert found.draft is not None
    assert found.draft.name == lookup("Qwen2.5-0.5B").stem
    assert seen[0].phase == "looking"
