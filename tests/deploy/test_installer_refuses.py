"""What the installer says when it cannot do its work: one line, with what to do; nothing is installed."""

import os
from pathlib import Path

import pytest

from deploy.target import python_here
from tests.deploy.little_bundle import LittleBundle


@pytest.fixture
def little(tmp_path: Path) -> LittleBundle:
    return LittleBundle(tmp_path)


def test_another_system_or_processor(little: LittleBundle) -> None:
    little.say("1.0", system="Linux", machine="riscv64")
    little.stub("uname", "case $1 in -s) echo Linux ;; *) echo x86_64 ;; esac")
    said = little.refusal()
    assert "is for Linux on riscv64; this machine is Linux on x86_64" in said
    assert "make bundle" in said
    assert not little.prefix.exists()


@pytest.mark.parametrize(
    ("has", "needs"),
    [("glibc 2.31", "2.34"), ("glibc 1.99", "2.34"), ("glibc 2.9", "2.28"), ("glibc 2", "2.1")],
)
def test_an_older_c_library(little: LittleBundle, has: str, needs: str) -> None:
    little.say("1.0", runtime="glibc", runtime_min=needs)
    little.stub("getconf", f"echo {has}")
    said = little.refusal()
    assert f"needs glibc {needs} or newer; this machine has {has.split()[1]}." in said


def test_a_newer_c_library_is_no_hindrance(little: LittleBundle) -> None:
    little.say("1.0", runtime="glibc", runtime_min="2.9")
    little.stub("getconf", "echo glibc 2.10")
    little.install()


def test_another_c_library(little: LittleBundle) -> None:
    little.stub("getconf", "exit 1")
    assert "needs glibc; this machine has musl" in little.refusal()


def test_no_fitting_python_names_what_was_found(little: LittleBundle) -> None:
    little.say("1.0", python="9.9")
    little.stub("python3", "echo cpython 3.8 /usr/bin/python3")
    said = little.refusal(PYTHON="")
    assert "Python 9.9 is needed" in said
    assert "3.8 (python3)" in said


def test_a_python_without_its_library(little: LittleBundle) -> None:
    little.stub("broken", 'case $3 in *ssl*) exit 1 ;; esac; echo "cpython $WANTED $0"')
    said = little.refusal(PYTHON=str(little.stubs / "broken"), WANTED=python_here())
    assert "lacks a part of its own library" in said


def test_a_half_unpacked_bundle(little: LittleBundle) -> None:
    (little.root / "engine" / "llama-server").unlink()
    assert "only half unpacked: engine/llama-server is missing" in little.refusal()
    (little.root / "SHA256SUMS").unlink()
    assert "SHA256SUMS is missing: the bundle is only half unpacked" in little.refusal()


@pytest.mark.parametrize(
    "name", ["engine/libggml.so", "app/meshsite/cli.py", "install.sh", "BUNDLE"]
)
def test_a_damaged_file_is_named(little: LittleBundle, name: str) -> None:
    with (little.root / name).open("ab") as file:
        file.write(b"\n# changed\n")
    said = little.refusal()
    assert f"{name} is damaged" in said
    assert not little.prefix.exists()


def test_a_file_that_is_not_of_the_bundle(little: LittleBundle) -> None:
    (little.root / "wheels" / "other.whl").touch()
    (little.root / "engine" / "._llama-server").touch()  # macOS leaves these
    assert "wheels/other.whl is not of this bundle" in little.refusal()


def test_damaged_sums(little: LittleBundle) -> None:
    (little.root / "SHA256SUMS").write_text("0" * 64 + "  ../../etc/passwd\n")
    assert "SHA256SUMS is damaged" in little.refusal()


def test_no_room(little: LittleBundle) -> None:
    little.say("1.0", installed_mb=380)
    little.stub("df", "echo head; echo fs 1000000 0 200000 1% /")
    said = little.refusal()
    assert "has 204 MB free and 380 MB are needed" in said
    assert "--prefix" in said


def test_a_place_that_cannot_be_written(little: LittleBundle) -> None:
    (little.machine / "file").touch()
    said = little.refusal("--prefix", str(little.machine / "file" / "in"))
    assert "cannot be written" in said
    assert "--prefix DIR" in said


def test_a_prefix_that_no_path_can_hold(little: LittleBundle) -> None:
    assert "colon" in little.refusal("--prefix", "/tmp/a:b")
    assert "needs a folder" in little.refusal("--prefix")


def test_a_command_of_another_origin_stays(little: LittleBundle) -> None:
    command = little.prefix / "bin" / "mesh-llm"
    command.parent.mkdir(parents=True)
    command.symlink_to("/somewhere/.venv/bin/mesh-llm")
    assert f"{command} is there and not from a bundle" in little.refusal()
    assert str(command.readlink()) == "/somewhere/.venv/bin/mesh-llm"


def test_another_install_at_the_same_time(little: LittleBundle) -> None:
    lock = little.prefix / "lib" / "mesh-llm" / ".lock"
    lock.mkdir(parents=True)
    (lock / "pid").write_text(f"{os.getpid()}\n")
    assert (
        f"Another install into {little.prefix} is running (pid {os.getpid()})" in little.refusal()
    )
    (lock / "pid").write_text("4194999\n")  # beyond any pid: its holder is gone
    little.install()
    assert not lock.exists()


def test_an_unknown_word_is_a_fault_of_usage(little: LittleBundle) -> None:
    done = little.run("upgrade")
    assert done.returncode == 2
    assert "no word or option upgrade" in done.stderr
    assert "./install.sh uninstall" in done.stderr
    assert little.run("--help").returncode == 0
