"""The README's first command on a fresh clone with an empty home: from nothing to an answer.

Its second command, `make test`, is what `.ci/run` runs on a fresh clone.
"""

import os
import subprocess
import time
from pathlib import Path

import openai
import pytest

from tests.conftest import REPO
from tests.e2e.node_process import NodeProcess

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

SETUP_MAX_S = 300


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(REPO), str(folder)], check=True)
    return folder


def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    names = ("PATH", "LANG", "TERM", "http_proxy", "https_proxy", "no_proxy")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return kept | {"HOME": str(home)}


class MakeRun(NodeProcess):
    """`make run` in a clone."""

    def __init__(self, clone: Path, env: dict[str, str]) -> None:
        self.clone = clone
        super().__init__(Path(env["HOME"]) / ".mesh-llm")
        self._env = env

    def start(self) -> "MakeRun":
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                ["make", "run", f"ARGS={' '.join(self.args)}"],
                cwd=self.clone, env=self._env, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self

    def word(self, word: str) -> int:
        """Return the exit code of a word of the clone's own command, run from another folder."""
        command = [str(self.clone / ".venv" / "bin" / "mesh-llm"), word]
        return subprocess.run(command, cwd="/", env=self._env, capture_output=True).returncode

    def wait_ready(self, max_s: float = SETUP_MAX_S) -> None:
        super().wait_ready(max_s)


def test_make_run_ends_with_a_node_that_answers_the_sdk(clone: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    with MakeRun(clone, env) as node:
        client = openai.OpenAI(base_url=f"{node.api}/v1", api_key="none")
        answer = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "What is a mesh?"}], temperature=0
        )
        assert "machines" in (answer.choices[0].message.content or "")
        assert node.get("/api/status", node.console)[1]["is_host"] is True
        assert node.word("status") == 0
        assert node.word("stop") == 0
        assert node.wait_exit() == 0
    began = time.monotonic()
    again = subprocess.run(["make", "setup"], cwd=clone, env=env, capture_output=True, text=True)
    assert again.returncode == 0
    assert "installing" not in again.stdout
    assert time.monotonic() - began < 30, "it takes under 3 s on a quiet machine (make bench)"
