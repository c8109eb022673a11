"""Where an engine is looked for, in which order, and what is said when there is none."""

from pathlib import Path

import pytest

from models_registry.engine.faults import EngineBroken, EngineMissing
from models_registry.engine.find import find
from tests.models_registry.engine.conftest import fake_engine, write_script


def test_bin_dir_wins_over_home_and_path(tmp_path: Path) -> None:
    for name in ("given", "home/engine", "path"):
        fake_engine(tmp_path / name)
    home, path = tmp_path / "home", str(tmp_path / "path")
    assert find(tmp_path / "given", home, path).facts.source == "--bin-dir"
    assert find(None, home, path).facts.source == "home"
    assert find(None, tmp_path / "empty", path).facts.source == "PATH"


def test_nothing_found_names_the_ways_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing) as caught:
        find(None, tmp_path, str(tmp_path))
    for way in (
        "mesh-llm engine install",
        "brew install",
        "winget install",
        "nix profile",
        "--bin-dir",
    ):
        assert way in str(caught.value)


def test_engine_of_the_default_home_is_named_to_a_node_of_another_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engine(tmp_path / ".mesh-llm" / "engine")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(EngineMissing) as caught:
        find(None, tmp_path / "second", str(tmp_path))
    assert f"--bin-dir {tmp_path}/.mesh-llm/engine uses it" in str(caught.value)


def test_bin_dir_without_a_server_is_an_error_even_if_path_has_one(tmp_path: Path) -> None:
    fake_engine(tmp_path / "path")
    with pytest.raises(EngineMissing, match="--bin-dir"):
        find(tmp_path / "nothing", tmp_path, str(tmp_path / "path"))


def test_broken_engine_of_the_home_is_not_silently_replaced_by_another(tmp_path: Path) -> None:
    fake_engine(tmp_path / "path")
    write_script(tmp_path / "engine" / "llama-server", "exit 1\n")
    with pytest.raises(EngineBroken, match="install --force"):
        find(None, tmp_path, str(tmp_path / "path"))


def test_rpc_server_by_its_older_name_is_found_beside_the_link_s_target(tmp_path: Path) -> None:
    fake_engine(tmp_path / "cellar")
    (tmp_path / "cellar" / "ggml-rpc-server").rename(tmp_path / "cellar" / "rpc-server")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "llama-server").symlink_to(tmp_path / "cellar" / "llama-server")
    engine = find(None, tmp_path, str(tmp_path / "bin"))
    assert engine.facts.rpc_server_path == str(tmp_path / "cellar" / "rpc-server")
