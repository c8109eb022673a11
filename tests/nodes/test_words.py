"""Every word of the command line: listed, described, and without Django's own clutter."""

import subprocess
import sys

import pytest

from meshsite.cli import WORDS, main
from meshsite.flags import parser


@pytest.mark.parametrize("word", [word for word in WORDS if word != "runnode"])
def test_help_of_a_word_is_its_own(word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "meshsite.cli", word, "--help"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"usage: mesh-llm {word}" in done.stdout
    assert "--pythonpath" not in done.stdout
    assert "--settings" not in done.stdout


def test_help_of_the_node_names_every_word() -> None:
    text = parser().format_help()
    assert [word for word in WORDS if word != "runnode" and word not in text] == []


def test_unknown_word_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sing"]) == 2
    said = capsys.readouterr().err
    assert "'sing'" in said
    assert "status" in said
