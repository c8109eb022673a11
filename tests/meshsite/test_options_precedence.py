"""Flags and their variables: the command line wins, and what makes no sense is said in plain words."""

from pathlib import Path

import pytest

from meshsite.options import parse


@pytest.mark.parametrize(
    ("variable", "value", "flags"),
    [
        ("MESH_LLM_NO_CONSOLE", "1", ["--console", "4000"]),
        ("MESH_LLM_CONSOLE", "4000", ["--no-console"]),
        ("MESH_LLM_NO_DRAFT", "1", ["--draft", "draft.gguf"]),
        ("MESH_LLM_DRAFT", "draft.gguf", ["--no-draft"]),
        ("MESH_LLM_PORT", "1234", ["--port=4321"]),
    ],
)
def test_flag_wins_over_the_variable_of_itself_or_of_its_opposite(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, flags: list[str]
) -> None:
    without = parse(flags)
    monkeypatch.setenv(variable, value)
    assert parse(flags) == without
    assert parse([]) != without


def test_key_file_on_the_command_line_wins_over_a_key_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("from-file")
    monkeypatch.setenv("MESH_LLM_API_KEY", "from-environment")
    assert parse([]).api_key == "from-environment"
    assert parse(["--api-key-file", str(tmp_path / "key")]).api_key == "from-file"


@pytest.mark.parametrize("flag", ["--parallel", "--ctx-size", "--draft-max"])
@pytest.mark.parametrize("value", ["many", "0", "-3", "1.5"])
def test_number_that_is_none_is_named_in_plain_words(
    capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([f"{flag}={value}"])
    assert ended.value.code == 2
    assert f"argument {flag}: {value} is not a number of 1 or more" in capsys.readouterr().err
