"""What the command line says when it cannot do what it was asked: one sentence, a true exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshsite import cli
from meshsite.flags import parser
from meshsite.options import OptionsError, parse


def run(home: Path, *words: str, given: str = "", **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "meshsite.cli", *words],
        env={**os.environ, "MESH_LLM_HOME": str(home), **env},
        input=given, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_every_word_is_in_the_help() -> None:
    text = " ".join(parser().format_help().split())
    assert [word for word in cli.WORDS if word != "runnode" and f" {word}" not in text] == []


def test_api_and_console_on_one_port_is_said_before_anything_starts() -> None:
    with pytest.raises(OptionsError, match="--port and --console are both 9000"):
        parse(["--port", "9000", "--console", "9000"])


def test_ctrl_c_before_the_node_runs_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run_node", interrupted)
    assert cli.main([]) == 130


def test_word_that_fails_says_so_in_the_programs_name(tmp_path: Path) -> None:
    code, said = run(tmp_path, "download", "nope", "--models-dir", str(tmp_path))
    assert code == 1
    assert said.startswith("mesh-llm: ") and "Traceback" not in said and "CommandError" not in said


def test_short_password_makes_no_account(tmp_path: Path) -> None:
    words = ("admin-user", "--username", "bob", "--password-stdin")
    code, said = run(tmp_path, *words, given="pw12\n")
    assert code == 1 and "too short" in said
    assert run(tmp_path, *words, given="a-Long-0ne-indeed\n") == (0, "")


@pytest.mark.parametrize(
    "address", ["nonsense://u:hidden@h/x", "hidden", "postgres://u:hidden@h:x/y"]
)
def test_database_address_of_no_kind_is_a_sentence_without_the_address(
    tmp_path: Path, address: str
) -> None:
    code, said = run(tmp_path, DATABASE_URL=address)
    assert code == 2
    assert said.startswith("mesh-llm: DATABASE_URL") and said.count("\n") == 1
    assert "hidden" not in said
