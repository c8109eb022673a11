"""Records of children, and their reaping at the next boot."""

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models_registry.children import ChildRecord, forget, reap, record, recorded
from models_registry.guard import identity


@pytest.fixture
def leftover() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process as an earlier node could have left it."""
    code = "import time; print(flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout and process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def known(pid: int) -> str:
    found = identity(pid)
    assert found
    return found


def test_leftover_is_ended_and_named(tmp_path: Path, leftover: subprocess.Popen[bytes]) -> None:
    record(tmp_path, ChildRecord(leftover.pid, known(leftover.pid), "llama-server for tiny"))
    assert reap(tmp_path) == [
        f"ended llama-server for tiny (pid {leftover.pid}), left by an earlier start"
    ]
    assert identity(leftover.pid) is None
    assert list(tmp_path.iterdir()) == []


def test_recycled_pid_is_not_touched(tmp_path: Path, leftover: subprocess.Popen[bytes]) -> None:
    record(tmp_path, ChildRecord(leftover.pid, "1@00000000", "llama-server for tiny"))
    assert reap(tmp_path) == []
    assert identity(leftover.pid) is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"pid": "x"}', b'{"pid": 1, "identity": "a", "what": "b"}', b"\xff"],
)
def test_unreadable_record_is_removed_and_ends_nobody(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "child-77.json").write_bytes(body)
    assert reap(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_leaves_no_record(tmp_path: Path) -> None:
    (tmp_path / "child-77.new").write_bytes(b'{"pid": 77')
    assert recorded(tmp_path) == [] and reap(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_other_files_of_the_run_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    assert reap(tmp_path) == []
    assert (tmp_path / "secret").exists()


def test_records_are_the_owners_alone_and_can_be_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record(folder, ChildRecord(77, "a@b", "engine"))
    assert recorded(folder) == [ChildRecord(77, "a@b", "engine")]
    assert stat.S_IMODE((folder / "child-77.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    forget(folder, 77)
    forget(folder, 77)
    assert recorded(folder) == []


def test_missing_folder_has_nothing_to_reap(tmp_path: Path) -> None:
    assert reap(tmp_path / "none") == []
