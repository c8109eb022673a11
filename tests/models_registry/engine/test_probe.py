"""A binary is asked once; one that does not run says why and what to do."""

from pathlib import Path

import pytest

from models_registry.engine.faults import EngineBroken
from models_registry.engine.probe import KEPT_MAX, probe
from tests.models_registry.engine.conftest import fake_engine, write_script


def test_second_probe_runs_nothing_and_answers_the_same(tmp_path: Path) -> None:
    server = fake_engine(tmp_path / "e")
    first = probe(server, "home", tmp_path / "cache")
    asked = (tmp_path / "e" / "runs").read_text()
    second = probe(server, "PATH", tmp_path / "cache")
    assert (tmp_path / "e" / "runs").read_text() == asked
    assert second.flags == first.flags
    assert (first.facts.source, second.facts.source) == ("home", "PATH")
    assert (first.facts.version, first.facts.rpc_version) == ("0.7.0", "8.0.0")


def test_replaced_binary_is_asked_again(tmp_path: Path) -> None:
    probe(fake_engine(tmp_path / "e"), "home", tmp_path / "cache")
    server = fake_engine(tmp_path / "e", version="0.8.1 (build 12000)")
    assert probe(server, "home", tmp_path / "cache").facts.version == "0.8.1"


def test_answers_of_replaced_binaries_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(KEPT_MAX + 3):
        server = fake_engine(tmp_path / "e", version=f"0.{'1' * (number + 1)}.0")
        probe(server, "home", tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == KEPT_MAX


def test_damaged_cache_is_asked_again(tmp_path: Path) -> None:
    server = fake_engine(tmp_path / "e")
    probe(server, "home", tmp_path / "cache")
    for kept in (tmp_path / "cache").iterdir():
        kept.write_text("{")
    assert probe(server, "home", tmp_path / "cache").facts.version == "0.7.0"


def test_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert probe(fake_engine(tmp_path / "e"), "home", tmp_path / "cache").facts.version == "0.7.0"


def test_broken_rpc_server_leaves_an_engine_that_serves_alone(tmp_path: Path) -> None:
    server = fake_engine(tmp_path)
    write_script(tmp_path / "ggml-rpc-server", "exit 3\n")
    engine = probe(server, "home", None)
    assert engine.facts.rpc_server_path is None
    assert engine.flags.rpc_port is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "echo 'x: error while loading shared libraries: libfoo.so.1: no such file'; exit 127",
            "libfoo.so.1",
        ),
        ("kill -ILL $$", "processor"),
        ("echo 'cannot do that'; exit 7", "ended with 7: cannot do that"),
        ("echo hello", "not llama.cpp's llama-server"),
    ],
)
def test_server_that_does_not_run_says_why_and_what_to_do(
    tmp_path: Path, body: str, says: str
) -> None:
    with pytest.raises(EngineBroken, match=says) as caught:
        probe(write_script(tmp_path / "llama-server", body + "\n"), "PATH", None)
    assert "mesh-llm engine install" in str(caught.value)


def test_foreign_executable_is_told_by_its_format(tmp_path: Path) -> None:
    server = write_script(tmp_path / "llama-server", "")
    server.write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(EngineBroken, match="processor or system"):
        probe(server, "PATH", None)


def test_script_without_its_interpreter_is_told_as_such(tmp_path: Path) -> None:
    server = write_script(tmp_path / "llama-server", "")
    server.write_text("#!/nowhere/ld-linux.so\n")
    with pytest.raises(EngineBroken, match="loader is missing"):
        probe(server, "PATH", None)


def test_vanished_binary_is_a_fault_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(EngineBroken, match="cannot be read"):
        probe(tmp_path / "llama-server", "PATH", None)


@pytest.mark.engine
def test_real_engine_tells_its_version_and_protocol(real_engine_dir: Path, tmp_path: Path) -> None:
    engine = probe(real_engine_dir / "llama-server", "home", tmp_path)
    assert engine.facts.version
    assert engine.facts.rpc_version
    assert engine.flags.metrics == "--metrics"
    assert len(list(tmp_path.iterdir())) == 1
