"""`make bundle`, and what comes of it on a machine with an empty home and no network: install, join, answer.

The machine without network is a network namespace of its own (`unshare`), so this test needs Linux.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

BUNDLE_MAX_S = 300
WALK_MAX_S = 300


@pytest.fixture
def bundle(tmp_path: Path, engine_dir: Path) -> Path:
    """Return a bundle of this checkout with the real engine, made as `make bundle` makes it."""
    home = tmp_path / "maker"
    home.mkdir()
    (home / "engine").symlink_to(engine_dir)
    made = subprocess.run(
        [sys.executable, "-m", "deploy.bundle", "--out", str(tmp_path / "dist")],
        cwd=REPO, env=_environment() | {"MESH_LLM_HOME": str(home)},
        capture_output=True, text=True, timeout=BUNDLE_MAX_S,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    archives = list((tmp_path / "dist").glob("*.tar.gz"))
    assert len(archives) == 1
    assert f"tar xzf {archives[0].name} && ./" in made.stdout
    return archives[0]


def test_a_machine_without_network_is_set_up_joins_and_answers(
    bundle: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    ran = subprocess.run(
        ["unshare", "-rn", sys.executable, "-m", "tests.e2e.offline_walk", str(bundle), str(disk)],
        cwd=REPO, capture_output=True, text=True, timeout=WALK_MAX_S,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["network"] is False
    assert found["install"] == 0, found["said"]
    assert "start a node with" in found["said"]
    assert "machines" in found["first"]
    assert "machines" in found["second"]
    assert str(disk / "home" / ".local" / "lib" / "mesh-llm") in found["engine"]
    assert found["left"] == []
    assert found["uninstall"] == 0
    assert found["files"] == []


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("MESH_LLM_", "DJANGO_"))}
