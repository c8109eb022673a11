"""Flags and their environment: precedence, safety, errors."""

from pathlib import Path

import pytest

from meshsite import settings
from meshsite.options import Options, OptionsError, parse
from meshsite.told import serving_options
from nodes.mesh.config import PROFILES


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    values: dict[str, str] = {}
    monkeypatch.setattr(settings, "flag_default", values.get)
    return values


def test_no_flags_mean_a_loopback_node_with_console(environ: dict[str, str]) -> None:
    options = parse([])
    assert (options.port, options.console_port, options.console) == (9337, 3131, True)
    assert options.loopback_only
    assert options.models == ()


def test_environment_sets_every_kind_of_flag(environ: dict[str, str]) -> None:
    environ |= {
        "--port": "9555",
        "--model": "a.gguf, b.gguf",
        "--serve-all": "yes",
        "--no-draft": "0",
        "--max-vram": "1.5",
        "--models-dir": "/srv/models",
    }
    options = parse([])
    assert options.port == 9555
    assert options.models == ("a.gguf", "b.gguf")
    assert (options.serve_all, options.no_draft) == (True, False)
    assert options.max_vram_bytes == 1_500_000_000
    assert options.models_dir == Path("/srv/models")


def test_command_line_wins_over_the_environment(environ: dict[str, str]) -> None:
    environ |= {"--port": "9555", "--model": "a.gguf"}
    options = parse(["--port", "9556", "--model=b.gguf"])
    assert (options.port, options.models) == (9556, ("b.gguf",))


def test_console_without_a_port_may_move_and_with_one_may_not(environ: dict[str, str]) -> None:
    assert not parse(["--console"]).console_port_given
    given = parse(["--console", "4000"])
    assert (given.console_port, given.console_port_given) == (4000, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_key(environ: dict[str, str], host: str) -> None:
    assert parse(["--host", host]).loopback_only


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "box.example"])
def test_beyond_loopback_a_key_or_the_explicit_word_is_needed(
    environ: dict[str, str], host: str
) -> None:
    with pytest.raises(OptionsError, match="--api-key"):
        parse(["--host", host])
    assert parse(["--host", host, "--api-key", "k"]).api_key == "k"
    assert parse(["--host", host, "--insecure-open"]).insecure_open


def test_key_file_is_read_without_its_line_end(environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    assert parse(["--api-key-file", str(file)]).api_key == "secret"
    file.write_text("\n")
    with pytest.raises(OptionsError, match="empty"):
        parse(["--api-key-file", str(file)])


@pytest.mark.parametrize(
    "words",
    [
        ["--port", "0"],
        ["--port", "70000"],
        ["--max-vram", "-1"],
        ["--max-vram", "nan"],
        ["--parallel", "0"],
        ["--stop-grace", "-1"],
        ["--tensor-split", "0.5"],
        ["--tensor-split", "0.5,x"],
        ["--tensor-split", "0,0"],
        ["--tensor-split", "1,-1"],
        ["--tensor-split", "nan,1"],
        ["--tensor-split", ",".join(["1"] * 65)],
        ["--mod", "x"],
        ["--unknown"],
    ],
)
def test_malformed_flags_end_with_a_usage_error(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2


def test_split_and_its_shares_reach_the_serving_half(environ: dict[str, str]) -> None:
    options = serving_options(parse(["--split", "--tensor-split", "0.6,0.4"]))
    assert (options.force_split, options.tensor_split) == (True, (0.6, 0.4))
    environ |= {"--split": "1", "--tensor-split": "2,1,1"}
    options = serving_options(parse([]))
    assert (options.force_split, options.tensor_split) == (True, (2.0, 1.0, 1.0))
    environ.clear()
    options = serving_options(parse([]))
    assert (options.force_split, options.tensor_split) == (False, None)


def test_shares_that_make_no_sense_are_told_with_an_example(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["--tensor-split", "60%,40%"])
    assert "60%,40% is not a list of 2 to 64 shares, such as 0.6,0.4" in capsys.readouterr().err


def test_malformed_environment_is_a_usage_error_too(environ: dict[str, str]) -> None:
    environ["--port"] = "many"
    with pytest.raises(SystemExit):
        parse([])


def test_the_networks_that_can_be_chosen_are_gossips_profiles(environ: dict[str, str]) -> None:
    assert parse([]).network == "lan"
    assert {parse(["--network", name]).network for name in PROFILES} == {"lan", "wan"}
    with pytest.raises(SystemExit):
        parse(["--network", "moon"])


def test_options_are_what_the_dataclass_says_by_default(environ: dict[str, str]) -> None:
    assert parse([]).draft_max == Options().draft_max
    assert parse([]).stop_grace_s == Options().stop_grace_s
