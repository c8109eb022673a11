"""What each build's help says of its options."""

import pytest

from models_registry.engine.flags import is_server_help, parse_flags, parse_version
from models_registry.engine.probe import Engine


def test_070_spells_the_draft_length_anew_and_its_removed_name_counts_as_absent(
    engine_070: Engine,
) -> None:
    assert engine_070.flags.draft_max == "--spec-draft-n-max"
    removed_only = (
        "--draft, --draft-n, --draft-max N       the argument has been removed. use another\n"
    )
    assert parse_flags(removed_only, None).draft_max is None


def test_050_spells_the_draft_length_the_old_way_and_needs_no_spec_type(engine_050: Engine) -> None:
    assert engine_050.flags.draft_max == "--draft-max"
    assert engine_050.flags.spec_type == ()


def test_no_mmap_is_one_word_in_050_and_a_load_mode_in_070(
    engine_050: Engine, engine_070: Engine
) -> None:
    assert engine_050.flags.no_mmap == ("--no-mmap",)
    assert engine_070.flags.no_mmap == ("-lm", "none")


def test_the_web_ui_is_switched_off_by_the_name_that_the_build_has(
    engine_050: Engine, engine_070: Engine
) -> None:
    assert engine_050.flags.no_ui == "--no-webui"
    assert engine_070.flags.no_ui == "--no-ui"


def test_070_has_every_option_that_we_know(engine_070: Engine) -> None:
    flags = engine_070.flags
    assert all(getattr(flags, name) for name in flags.__slots__)
    assert flags.spec_type == ("--spec-type", "draft-simple")


def test_an_option_named_only_in_a_description_is_not_an_option() -> None:
    text = (
        "--host HOST        where; see also --metrics and -np\n                   use --jinja too\n"
    )
    flags = parse_flags(text, None)
    assert (flags.metrics, flags.parallel, flags.jinja) == (None, None, None)


def test_without_an_rpc_server_its_options_are_all_absent(engine_070: Engine) -> None:
    flags = parse_flags("--port PORT  port\n", None)
    assert {flags.rpc_host, flags.rpc_port, flags.rpc_threads, flags.rpc_cache} == {None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 0.7.0 (build 11669, commit Debian)\nbuilt with GNU", ("0.7.0", "11669")),
        ("noise\nversion: 6123 (ab12cd3)\nbuilt with cc", ("b6123", "6123")),
        ("version: 0.5.0", ("0.5.0", "")),
        ("GNU hello 2.1", ("", "")),
        ("", ("", "")),
    ],
)
def test_version_line_of_each_age(text: str, expected: tuple[str, str]) -> None:
    assert parse_version(text) == expected


def test_the_help_of_another_program_is_told_from_a_servers() -> None:
    assert not is_server_help("--port N  port\n--host H  host\n")
    assert is_server_help("--port N  port\n--host H  host\n-m, --model F  model\n")
