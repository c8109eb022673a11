"""A draft model guesses ahead: found by the catalogue's pairing or given, shown with what it is worth."""

import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from models_registry.catalogue import lookup
from models_registry.demo import demo_path
from tests.e2e.node_process import NodeProcess

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]

QUESTION = {"messages": [{"role": "user", "content": "What is a mesh?"}], "temperature": 0}


@pytest.fixture
def paired_dir(tmp_path: Path, models_dir: Path) -> Path:
    """Return a models folder with two models of one vocabulary, under names that the catalogue pairs."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name, file in (("Qwen2.5-1.5B", "tiny.gguf"), ("Qwen2.5-0.5B", "draft.gguf")):
        shutil.copy(models_dir / file, folder / f"{lookup(name).stem}.gguf")
    return folder


def answer(node: NodeProcess) -> str:
    code, body = node.post("/v1/chat/completions", QUESTION | {"model": "auto", "max_tokens": 48})
    assert code == 200, body
    return str(body["choices"][0]["message"]["content"])


def arguments(node: NodeProcess) -> list[str]:
    return node.engine_process().cmdline()


def test_the_catalogues_draft_on_disk_is_used_and_changes_no_answer(
    home: Path, engine_dir: Path, paired_dir: Path
) -> None:
    flags = ("--model", "Qwen2.5-1.5B", "--models-dir", str(paired_dir))
    draft = str(lookup("Qwen2.5-0.5B").stem)
    with NodeProcess(home, *flags, "--draft-max", "3", engine=engine_dir) as node:
        words = arguments(node)
        assert words[words.index("-md") + 1] == str(paired_dir / f"{draft}.gguf")
        assert "3" in words[words.index("-md") :]
        assert node.status()["draft_name"] == draft
        with_draft = answer(node)
        guessed = "mesh_llm_draft_tokens_total"
        node.wait_for(lambda: any(key.startswith(guessed) for key in metrics(node)), "a count")
        assert 0 <= node.status()["draft_acceptance"] <= 1
    with NodeProcess(home, *flags, "--no-draft", engine=engine_dir) as node:
        assert "-md" not in arguments(node)
        assert node.status()["draft_name"] is None
        assert answer(node) == with_draft


def test_a_given_drafts_acceptance_is_in_status_word_console_and_metrics(
    home: Path, engine_dir: Path
) -> None:
    with NodeProcess(home, "--draft", str(demo_path()), engine=engine_dir) as node:
        assert "machines" in answer(node)
        rate = node.wait_for(lambda: node.status()["draft_acceptance"], "an acceptance rate")
        assert 0.5 < rate <= 1, "it drafts for itself"
        assert node.get("/api/status", node.console)[1]["draft_acceptance"] == rate
        word = node.command("status").stdout
        assert f"Draft mesh-demo, {rate:.0%} of its guesses right" in word
        counted = metrics(node)
        guessed = counted['mesh_llm_draft_tokens_total{model="mesh-demo",what="guessed"}']
        accepted = counted['mesh_llm_draft_tokens_total{model="mesh-demo",what="accepted"}']
        assert accepted / guessed == pytest.approx(rate, abs=0.001)


def test_a_draft_of_another_vocabulary_ends_the_start_with_the_reason(
    home: Path, engine_dir: Path, models_dir: Path
) -> None:
    flags = ("--draft", str(models_dir / "draft.gguf"))
    with NodeProcess(home, *flags, engine=engine_dir, until="started") as node:
        assert node.wait_exit() == 1
        assert "draft cannot draft for mesh-demo: its vocabulary has 960 tokens" in node.output


def metrics(node: NodeProcess) -> dict[str, Any]:
    with urllib.request.urlopen(f"{node.console}/metrics", timeout=10) as found:
        lines = found.read().decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#")
    }
