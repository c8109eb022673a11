"""`mesh-llm models` and `mesh-llm download`, as a person or a program runs them."""

import io
import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from models_registry.catalogue import lookup
from models_registry.listing import list_models
from tests.models_registry.gguf_bytes import header, llama, padded, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a models folder with a good and a broken file, and a catalogue model."""
    write(tmp_path / "good [bold].gguf", padded(header(llama())))
    write(tmp_path / "broken.gguf", b"<html>")
    write(tmp_path / f"{lookup('Qwen2.5-3B').stem}.gguf", padded(header(llama())))
    return tmp_path


def run(*argv: str) -> str:
    out = io.StringIO()
    call_command(*argv, stdout=out)
    return out.getvalue()


def test_json_lists_disk_catalogue_and_broken_files(folder: Path) -> None:
    listing = json.loads(run("models", "--models-dir", str(folder), "--max-vram", "18", "--json"))
    assert listing["offered_bytes"] <= 18_000_000_000
    assert {row["name"] for row in listing["on_disk"]} == {"good [bold]", lookup("Qwen2.5-3B").stem}
    assert all(row["fits"] for row in listing["on_disk"])
    catalogue = {row["name"]: row for row in listing["catalogue"]}
    assert "Qwen2.5-3B" not in catalogue
    assert catalogue["Qwen2.5-0.5B"]["path"] is None
    assert not catalogue["Llama-3.3-70B"]["fits"]
    assert "web page" in listing["bad"][0]["reason"]


def test_what_is_missing_is_told_in_gb(folder: Path) -> None:
    listing = list_models(folder, 18_000_000_000, 4)
    verdicts = {row.name: row.verdict for row in listing.catalogue}
    assert verdicts["Llama-3.3-70B"] == "no: 28.8 GB short"
    assert list_models(folder, 1000, 4).on_disk[0].verdict == "no: 0.1 GB short"


def test_a_pipe_gets_one_line_for_a_model(folder: Path) -> None:
    lines = run("models", "--models-dir", str(folder)).splitlines()
    assert any(line.startswith("good [bold]\t") for line in lines)
    assert any(line.startswith("# cannot be used\t") and "broken.gguf" in line for line in lines)


def test_a_terminal_gets_a_table_and_names_are_no_markup(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", "120")
    call_command("models", "--models-dir", str(folder), stdout=screen)
    assert "good [bold]" in screen.getvalue()
    assert "trained for" in screen.getvalue()


def test_a_cap_that_is_no_number_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.conf.settings.MESH_LLM_MAX_VRAM_GB", "lots")
    with pytest.raises(CommandError, match="'lots', and not a number of GB"):
        run("models", "--models-dir", str(folder))


def test_download_of_a_model_on_disk_says_where_it_is(folder: Path) -> None:
    said = run("download", "Qwen2.5-3B", "--models-dir", str(folder))
    assert str(folder) in said
    assert "mesh-llm --model" in said


def test_download_of_an_unknown_name_fails_with_near_misses(folder: Path) -> None:
    with pytest.raises(CommandError, match=r"Did you mean .*Qwen2\.5-3B"):
        run("download", "Qwen2.5-3BB", "--models-dir", str(folder))
