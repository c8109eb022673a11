"""The node's folder after a bad end: a killed node, a secret that is garbage."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.runtime.control_client import NodeNotReached, call
from nodes.runtime.home import enter, read_running, read_secret

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


def test_garbage_in_place_of_the_secret_is_made_afresh(tmp_path: Path) -> None:
    first = enter(tmp_path / "home", ephemeral=False)
    first.close()
    (first.run / "secret").write_bytes(b"\xff\xfe not a secret")
    fresh = enter(tmp_path / "home", ephemeral=False)
    assert fresh.secret not in ("", first.secret)
    assert read_secret(fresh.path) == fresh.secret
    fresh.close()


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
