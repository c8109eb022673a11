"""The node's folder: private, locked, given back."""

import os
import stat
from pathlib import Path

import pytest

from nodes.runtime.home import HomeError, enter, read_running, read_secret


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_and_secret_are_for_the_owner_alone(tmp_path: Path) -> None:
    home = enter(tmp_path / "home", ephemeral=False)
    assert [mode(p) for p in (home.path, home.logs, home.run)] == [0o700] * 3
    assert mode(home.run / "secret") == 0o600
    home.close()


def test_secret_stays_the_same_over_starts(tmp_path: Path) -> None:
    first = enter(tmp_path / "home", ephemeral=False)
    first.close()
    second = enter(tmp_path / "home", ephemeral=False)
    assert first.secret == second.secret == read_secret(tmp_path / "home")
    second.close()


def test_second_holder_is_refused_until_the_first_gives_it_back(tmp_path: Path) -> None:
    first = enter(tmp_path / "home", ephemeral=False)
    first.write_running({"api_port": 9337})
    with pytest.raises(HomeError, match=rf"pid {os.getpid()}, API on port 9337"):
        enter(tmp_path / "home", ephemeral=False)
    first.close()
    enter(tmp_path / "home", ephemeral=False).close()


def test_what_runs_is_told_while_it_runs(tmp_path: Path) -> None:
    home = enter(tmp_path / "home", ephemeral=False)
    home.write_running({"api_port": 2})
    found = read_running(tmp_path / "home") or {}
    assert (found["pid"], found["api_port"]) == (os.getpid(), 2)
    home.close()
    assert read_running(tmp_path / "home") is None


def test_ephemeral_folder_is_private_and_goes_with_close(tmp_path: Path) -> None:
    home = enter(tmp_path / "base", ephemeral=True)
    assert home.path != tmp_path / "base"
    assert home.base == tmp_path / "base"
    assert mode(home.path) == 0o700
    home.close()
    home.close()
    assert not home.path.exists()
    assert not (tmp_path / "base").exists()


def test_file_in_place_of_the_folder_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(HomeError, match="MESH_LLM_HOME"):
        enter(tmp_path / "home", ephemeral=False)


def test_no_home_has_no_secret_and_nothing_running(tmp_path: Path) -> None:
    assert read_secret(tmp_path / "none") is None
    assert read_running(tmp_path / "none") is None
