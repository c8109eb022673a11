"""The node's folder: private, held by one process, and truthful about who runs in it."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.runtime.control_client import NodeNotReached, call
from nodes.runtime.home import HomeError, enter, read_running, read_secret

FACTS = {"api_url": "http://localhost:1", "api_port": 1}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_in_a_fresh_home_is_the_owners_alone(tmp_path: Path) -> None:
    home = enter(tmp_path / "home", ephemeral=False)
    home.write_running(FACTS)
    found = [home.path, *home.path.rglob("*")]
    home.close()
    assert len(found) >= 6
    assert [p for p in found if p.exists() and mode(p) not in (0o700, 0o600)] == []


def test_secret_outlives_the_node_and_garbage_does_not(tmp_path: Path) -> None:
    first = enter(tmp_path / "home", ephemeral=False)
    first.close()
    again = enter(tmp_path / "home", ephemeral=False)
    assert again.secret == first.secret == read_secret(again.path)
    again.close()
    (again.run / "secret").write_bytes(b"\xff\xfe not a secret")
    fresh = enter(tmp_path / "home", ephemeral=False)
    assert fresh.secret not in ("", first.secret)
    assert read_secret(fresh.path) == fresh.secret
    fresh.close()


def test_running_node_is_told_with_its_process(tmp_path: Path) -> None:
    home = enter(tmp_path / "home", ephemeral=False)
    home.write_running(FACTS)
    assert (read_running(home.path) or {})["api_port"] == 1
    with pytest.raises(HomeError, match="API on port 1"):
        enter(tmp_path / "home", ephemeral=False)
    home.close()
    assert read_running(home.path) is None


def test_words_of_a_killed_node_lead_nobody_to_its_port(tmp_path: Path) -> None:
    killed = (
        "import os, pathlib, signal, sys\n"
        "from nodes.runtime.home import enter\n"
        "home = enter(pathlib.Path(sys.argv[1]), ephemeral=False)\n"
        "home.write_running({'api_url': 'http://localhost:1', 'api_port': 1})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "home")], check=False)
    told = json.loads((tmp_path / "home" / "run" / "node.json").read_text())
    assert told["api_port"] == 1
    assert read_running(tmp_path / "home") is None
    with pytest.raises(NodeNotReached, match="No node runs in"):
        call(tmp_path / "home", "status", None)


def test_ephemeral_home_goes_with_the_node(tmp_path: Path) -> None:
    home = enter(tmp_path / "home", ephemeral=True)
    assert home.path != home.base and mode(home.path) == 0o700
    home.close()
    assert not home.path.exists()


def test_file_in_place_of_the_folder_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(HomeError, match="MESH_LLM_HOME"):
        enter(tmp_path / "home", ephemeral=False)


def test_no_home_has_no_secret_and_nothing_running(tmp_path: Path) -> None:
    assert read_secret(tmp_path / "none") is None
    assert read_running(tmp_path / "none") is None
