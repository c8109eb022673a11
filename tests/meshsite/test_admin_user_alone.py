"""`mesh-llm admin-user`: makes the first account, on a machine where no node ever ran too."""

import os
import stat
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def admin_user(home: Path, *words: str, password: str = "long-Enough-74") -> tuple[int, str]:
    """Return (exit code, what was printed); the umask is the usual one of a login."""
    env = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "MESH_LLM_HOME")}
    done = subprocess.run(
        [sys.executable, "-m", "meshsite.cli", "admin-user", "--password-stdin", *words],
        cwd=REPO, env=env | {"MESH_LLM_HOME": str(home)}, input=password + "\n",
        capture_output=True, text=True, timeout=60, umask=0o022, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_first_account_is_made_before_any_node_ran_and_only_the_owner_can_read_it(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    code, text = admin_user(home, "--username", "ada")
    assert (code, "Made the account ada" in text) == (0, True), text
    found = [home, *home.iterdir()]
    assert (home / "db.sqlite3").exists()
    assert [p for p in found if stat.S_IMODE(p.stat().st_mode) & 0o077] == []


def test_what_cannot_be_made_is_said_without_a_traceback(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert admin_user(home, "--username", "ada")[0] == 0
    for words, password, said in (
        (["--username", "ada"], "long-Enough-74", "already"),
        (["--username", "bob"], "short", "too short"),
        (["--username", "bob"], "", "empty"),
        ([], "long-Enough-74", "--username"),
    ):
        code, text = admin_user(home, *words, password=password)
        assert code != 0 and said in text, text
        assert "Traceback" not in text


def test_home_that_cannot_be_made_names_what_to_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = admin_user(tmp_path / "file" / "home", "--username", "ada")
    assert code != 0 and "Check the rights" in text and "Traceback" not in text
