"""The installer on a machine that is like the bundle's: install, upgrade, go back, uninstall."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.deploy.little_bundle import LittleBundle

pytestmark = pytest.mark.slow
"""Each makes virtual environments: half a minute of CPU together."""


@pytest.fixture
def little(tmp_path: Path) -> LittleBundle:
    return LittleBundle(tmp_path)


def newer(little: LittleBundle, version: str) -> LittleBundle:
    return LittleBundle(little.machine, version)


def test_install_puts_a_command_that_runs_from_any_folder(little: LittleBundle) -> None:
    said = little.install()
    assert little.command("status", "it's") == "mesh-llm 1.0 little_wheel status it's"
    assert f"start a node with: {little.prefix}/bin/mesh-llm" in said
    assert "PATH=" in said


def test_a_prefix_with_blanks_and_quotes(little: LittleBundle) -> None:
    little.prefix = little.machine / "it's my place"
    little.install("--prefix", "it's my place")
    assert little.command("x") == "mesh-llm 1.0 little_wheel x"
    assert not (little.home / ".local").exists()


def test_the_settings_of_this_machines_pip_do_not_reach_in(little: LittleBundle) -> None:
    (little.home / ".config" / "pip").mkdir(parents=True)
    (little.home / ".config" / "pip" / "pip.conf").write_text("[global]\nconstraint = /nowhere\n")
    little.install()


def test_again_changes_nothing_and_takes_no_time(little: LittleBundle) -> None:
    little.install()
    made = (little.current / ".complete").stat().st_mtime_ns
    assert "in place already: 1.0-" in little.install()
    assert (little.current / ".complete").stat().st_mtime_ns == made


def test_again_mends_what_no_longer_runs(little: LittleBundle) -> None:
    little.install()
    shutil.rmtree(little.current / "venv" / "lib")
    little.install()
    assert little.command() == "mesh-llm 1.0 little_wheel"


def test_an_upgrade_keeps_the_version_before_and_drops_older_ones(little: LittleBundle) -> None:
    little.install()
    first = little.current
    second = newer(little, "1.1")
    assert f"upgraded from {first.name} to 1.1-" in second.install()
    assert second.command() == "mesh-llm 1.1 little_wheel"
    assert first.is_dir()
    newer(little, "1.2").install()
    assert {name.split("-")[0] for name in little.versions} == {"1.1", "1.2"}


def test_a_version_that_still_runs_is_not_removed(little: LittleBundle) -> None:
    little.install()
    first = little.current
    node = subprocess.Popen(
        [str(first / "venv" / "bin" / "python"), "-c", "input()"], stdin=subprocess.PIPE
    )
    try:
        newer(little, "1.1").install()
        newer(little, "1.2").install()
        assert first.is_dir()
        assert f"still runs from {first}" in little.refusal("uninstall")
    finally:
        node.kill()
        node.communicate()
    newer(little, "1.3").install()
    assert not first.exists()


def test_a_failed_upgrade_leaves_the_old_version_in_use(little: LittleBundle) -> None:
    little.install()
    broken = newer(little, "1.1")
    (broken.root / "engine" / "ggml-rpc-server").write_text("#!/bin/sh\necho no AVX >&2\nexit 4\n")
    broken.say("1.1")
    assert "The engine's ggml-rpc-server does not run here: no AVX" in broken.refusal()
    assert little.command() == "mesh-llm 1.0 little_wheel"
    assert little.versions == {little.current.name}


def test_a_wheel_that_is_not_the_pinned_one_is_not_installed(little: LittleBundle) -> None:
    pinned = little.root / "wheels" / "requirements.txt"
    pinned.write_text(pinned.read_text().replace("sha256:", "sha256:0")[:-2] + "\n")
    little.say("1.0")
    assert "The packages could not be installed: ERROR: " in little.refusal()
    assert little.versions == set()


def test_what_a_killed_run_left_is_redone(little: LittleBundle) -> None:
    slow = little.root / "engine" / "llama-server"
    slow.write_text(
        f"#!/bin/sh\n[ -f {little.home}/go ] || {{ touch {little.home}/here; sleep 60; }}\n"
    )
    little.say("1.0")
    run = _run_until_here(little)
    _kill_session(run)
    assert len(little.versions) == 2  # the half version, and the lock
    (little.home / "go").touch()
    little.install()
    assert little.versions == {little.current.name}
    assert little.command() == "mesh-llm 1.0 little_wheel"


def test_a_run_that_is_told_to_stop_leaves_nothing_half_made(little: LittleBundle) -> None:
    slow = little.root / "engine" / "llama-server"
    slow.write_text(f"#!/bin/sh\ntouch {little.home}/here; sleep 2\nexit 1\n")
    little.say("1.0")
    run = _run_until_here(little)
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 130
    assert little.versions == set()


def test_uninstall_removes_all_but_the_home(little: LittleBundle) -> None:
    little.install()
    (little.home / ".mesh-llm").mkdir()
    (little.prefix / "bin" / "other").touch()
    said = little.install("uninstall")
    assert str(little.home / ".mesh-llm") in said
    left = {str(path.relative_to(little.home)) for path in little.home.rglob("*")}
    assert left == {".mesh-llm", ".local", ".local/lib", ".local/bin", ".local/bin/other"}
    assert "nothing to remove" in little.refusal("uninstall")


def test_an_installation_can_remove_itself_when_the_bundle_is_gone(little: LittleBundle) -> None:
    little.prefix = little.machine / "place"
    little.install("--prefix", str(little.prefix))
    script = little.prefix / "lib" / "mesh-llm" / "current" / "install.sh"
    shutil.rmtree(little.root)
    done = subprocess.run(
        ["sh", str(script), "uninstall"], env=little.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not (little.prefix / "lib" / "mesh-llm").exists()
    assert not (little.prefix / "bin" / "mesh-llm").is_symlink()


def _run_until_here(little: LittleBundle) -> "subprocess.Popen[bytes]":
    """Return an installer that runs and has come to the engine, which leaves the file `here`."""
    run = subprocess.Popen(
        [str(little.root / "install.sh")], env=little.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while not (little.home / "here").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return run


def _kill_session(run: "subprocess.Popen[bytes]") -> None:
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
