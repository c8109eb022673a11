"""A node that cannot start says why in one sentence, exits non-zero and leaves nothing behind."""

import socket
from pathlib import Path

import pytest

from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.e2e


def refused(node: NodeProcess, code: int = 1) -> str:
    """Return what a node that does not start says last."""
    node.until = "started"
    with node:
        assert node.wait_exit() == code, node.output
        node.wait_childless(5)
    lines = [line for line in node.output.splitlines() if line.startswith("mesh-llm: ")]
    assert len(lines) == 1, node.output
    assert "Traceback" not in node.output
    return lines[0]


def test_busy_api_port_is_named_with_the_flag_to_use(home: Path) -> None:
    node = NodeProcess(home)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", node.port))
        taken.listen()
        text = refused(node)
    assert f"Port {node.port} for the API is taken" in text
    assert "--port" in text


def test_given_console_port_that_is_taken_is_an_error(home: Path) -> None:
    node = NodeProcess(home)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", node.console_port))
        taken.listen()
        text = refused(node)
    assert f"Port {node.console_port} for the console is taken" in text


def test_missing_engine_names_the_command_that_installs_it(home: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = refused(NodeProcess(home, "--bin-dir", str(empty)))
    assert "llama-server" in text
    no_engine = NodeProcess(home, PATH=str(empty))
    assert "No llama.cpp engine was found" in refused(no_engine)
    assert "mesh-llm engine install" in no_engine.output
    assert "brew install llama.cpp" in no_engine.output


def test_unknown_model_lists_what_could_be_meant(
    home: Path, engine_dir: Path, models_dir: Path
) -> None:
    node = NodeProcess(home, "--model", "tini", "--models-dir", str(models_dir), engine=engine_dir)
    assert "tiny" in refused(node)
    assert "serving" not in node.output, "nothing is said to be served that is not there"


def test_truncated_model_is_refused_before_any_engine_starts(
    home: Path, engine_dir: Path, models_dir: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes((models_dir / "tiny.gguf").read_bytes()[:1_000_000])
    text = refused(NodeProcess(home, "--model", str(broken), engine=engine_dir))
    assert "broken.gguf" in text
    assert "truncated" in text or "incomplete" in text
    assert not list((home / "logs").glob("*tiny*"))


def test_too_little_memory_for_any_model_is_said(home: Path, engine_dir: Path) -> None:
    text = refused(NodeProcess(home, "--max-vram", "0.01", engine=engine_dir))
    assert "could offer only 10 MB" in text
    assert "--max-vram" in text


def test_second_process_on_one_home_says_who_uses_it(
    home: Path, engine_dir: Path, models_dir: Path
) -> None:
    model = str(models_dir / "tiny.gguf")
    with NodeProcess(home, "--model", model, engine=engine_dir) as first:
        second = NodeProcess(home, "--model", model, engine=engine_dir)
        second._output = home.parent / "second.out"
        text = refused(second)
        assert f"pid {first.process.pid}" in text
        assert "MESH_LLM_HOME" in text
        assert first.get("/v1/models")[0] == 200


def test_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_text("not a folder")
    text = refused(NodeProcess(occupied))
    assert str(occupied) in text
    assert "MESH_LLM_HOME" in text


def test_log_that_cannot_be_written_is_refused_in_one_sentence(home: Path) -> None:
    (home / "logs" / "node.log").mkdir(parents=True)
    text = refused(NodeProcess(home))
    assert "node.log" in text
    assert "MESH_LLM_HOME" in text


def test_broken_key_is_refused_and_not_overwritten(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "key").write_text("garbage")
    (home / "key").chmod(0o600)
    assert "key" in refused(NodeProcess(home))
    assert (home / "key").read_text() == "garbage"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--host", "0.0.0.0"], "--api-key"),
        (["--console", "3939", "--no-console"], "--no-console"),
        (["--api-key-file", "/nonexistent/key"], "/nonexistent/key"),
        (["--draft", "x.gguf", "--no-draft"], "--no-draft"),
    ],
)
def test_flags_that_cannot_be_used_together_are_a_usage_error(
    home: Path, flags: list[str], names: str
) -> None:
    assert names in refused(NodeProcess(home, *flags), code=2)
    assert not (home / "key").exists()


def test_database_of_another_node_is_refused(
    home: Path, engine_dir: Path, models_dir: Path, tmp_path: Path
) -> None:
    model = str(models_dir / "tiny.gguf")
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    with NodeProcess(home, "--model", model, engine=engine_dir, DATABASE_URL=url) as first:
        first.wait_for(lambda: _owned(tmp_path), "database")
    other = NodeProcess(tmp_path / "home2", "--model", model, engine=engine_dir, DATABASE_URL=url)
    assert "The database belongs to node" in refused(other)


def _owned(folder: Path) -> bool:
    import sqlite3

    try:
        with sqlite3.connect(folder / "shared.sqlite3") as database:
            return bool(database.execute("select count(*) from nodes_databaseowner").fetchone()[0])
    except sqlite3.Error:
        return False
