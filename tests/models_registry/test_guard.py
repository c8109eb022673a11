"""The guard ends what the node left behind, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models_registry import guard
from models_registry.guard import end_processes, follow, identity

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Collect processes that are ended with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        child.kill()
        child.wait()


def child(
    children: list[subprocess.Popen[bytes]],
    code: str = "import time; print(flush=True); time.sleep(60)",
) -> int:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    children.append(process)
    assert process.stdout and process.stdout.readline()
    return process.pid


def start_guard(
    children: list[subprocess.Popen[bytes]], pids: list[int]
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(guard.__file__))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    children.append(process)
    assert process.stdin and process.stdout and process.stdout.readline() == b"guarding\n"
    for pid in pids:
        process.stdin.write(f"+ {pid} {identity(pid)}\n".encode())
    process.stdin.flush()
    return process


def test_closed_pipe_ends_the_listed_children_and_no_other(
    children: list[subprocess.Popen[bytes]],
) -> None:
    mine, deaf, stopped, bystander = (
        child(children),
        child(children, DEAF),
        child(children),
        child(children),
    )
    os.kill(stopped, signal.SIGSTOP)
    process = start_guard(children, [mine, deaf, stopped])
    assert process.stdin
    began_s = time.monotonic()
    process.stdin.close()
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - began_s < 5
    assert [identity(pid) for pid in (mine, deaf, stopped)] == [None] * 3
    assert identity(bystander) is not None


def test_child_struck_off_the_list_is_left_alone(children: list[subprocess.Popen[bytes]]) -> None:
    pid = child(children)
    process = start_guard(children, [pid])
    assert process.stdin
    process.stdin.write(f"- {pid}\n".encode())
    process.stdin.close()
    assert process.wait(timeout=10) == 0
    assert identity(pid) is not None


def test_guard_outlives_the_signals_of_a_terminal_and_a_service(
    children: list[subprocess.Popen[bytes]],
) -> None:
    pid = child(children)
    process = start_guard(children, [pid])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        process.send_signal(number)
    time.sleep(0.2)
    assert process.poll() is None and identity(pid) is not None
    assert process.stdin
    process.stdin.close()
    assert process.wait(timeout=10) == 0
    assert identity(pid) is None


def test_recycled_pid_is_not_touched(children: list[subprocess.Popen[bytes]]) -> None:
    pid = child(children)
    assert end_processes([(pid, "1@00000000")], term_s=0.1, kill_s=0.1) == []
    assert identity(pid) is not None


def test_zombie_counts_as_gone(children: list[subprocess.Popen[bytes]]) -> None:
    pid = child(children)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while identity(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert identity(pid) is None


def test_pids_of_the_system_have_no_identity() -> None:
    assert (identity(0), identity(1), identity(-1), identity(2**22 + 1)) == (None, None, None, None)


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("S    Mon Nov 23 18:41:28 2026\n", "Mon-Nov-23-18:41:28-2026"),
        ("Ss+  Mon Nov  2 08:01:08 2026    \n", "Mon-Nov-2-08:01:08-2026"),
        ("Z    Mon Nov 23 18:41:28 2026\n", None),
        ("", None),
    ],
)
def test_identity_where_there_is_no_proc_is_the_start_that_ps_prints(
    printed: str, found: str | None
) -> None:
    assert guard.identity_of_ps(printed) == found


def test_nonsense_on_the_pipe_is_ignored_and_the_list_is_bounded() -> None:
    listed: dict[int, str] = {}
    follow([b"", b"+", b"+ x y", b"? 5 a", b"\xff\xfe", b"+ 7 a b", b"- 9", b"+ -5 a"], listed)
    assert listed == {}
    follow([b"+ %d a" % n for n in range(2, guard.MAX_CHILDREN + 50)], listed)
    assert len(listed) == guard.MAX_CHILDREN


def test_guard_is_cheap(children: list[subprocess.Popen[bytes]]) -> None:
    process = start_guard(children, [])
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():  # Elsewhere than on Linux only the start is shown.
        return
    rss_kb = next(
        int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS")
    )
    assert rss_kb < 20_000
