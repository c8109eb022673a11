"""Processes of the harness: start, wait for a port, stop by pid alone, and what they cost."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from benchmarks.loadgen.spec import LoadResult, LoadSpec
from models_registry.supervision.process import spawn_prefix

REPO = Path(__file__).resolve().parent.parent
ENGINE_WORDS = ("llama-server", "rpc-server")
"""A process with one of these in its command line is the engine, which no figure counts."""
STOP_WAIT_S = 15.0


class TargetFailed(Exception):
    """A target could not be installed or started; its text goes into the table."""


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def start(
    argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Return a started process in a group of its own, its output in `log`; `argv` begins with a path.

    It does not outlive this one: where a benchmark is killed no `finally` stops what it started, and a
    node that goes on holds its engine.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [*spawn_prefix(), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=REPO,
            env=dict(os.environ) | dict(env or {}),
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that `start` returned, and what is left of its children."""
    children = family(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    for child in children:
        # psutil compares the creation time: a pid that was given away again is not touched.
        if child.pid != process.pid and child.is_running():
            child.kill()


def family(pid: int) -> list[psutil.Process]:
    """Return the process and all its descendants; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def counted(pid: int) -> list[int]:
    """Return the pids of a target that its figures count: its tree without the engine."""
    pids = []
    for process in family(pid):
        try:
            line = " ".join(process.cmdline()[:8])
        except psutil.Error:
            continue
        if not any(word in line for word in ENGINE_WORDS):
            pids.append(process.pid)
    return pids


def cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU time of these processes, in seconds to the nanosecond (Linux), dead ones as 0."""
    total = 0.0
    for pid in pids:
        try:
            # The kernel's clock of another process: clock_getcpuclockid(3) by hand. /proc counts 10 ms.
            total += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            continue
    return total


def rss_bytes(pids: Sequence[int]) -> int:
    """Return the resident memory of these processes; of pages shared by them each counts them."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    return total


def http_get(port: int, path: str, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Return status and body of a GET on loopback. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until_ok(process: subprocess.Popen[bytes], port: int, path: str, limit_s: float) -> None:
    """Return once `path` answers 200. Raises TargetFailed when the process ends or time is up."""
    limit = time.monotonic() + limit_s
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise TargetFailed(f"ended with code {process.returncode} while starting")
        try:
            if http_get(port, path)[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise TargetFailed(f"did not answer {path} within {limit_s:.0f} s")


class Load:
    """A load generator at work."""

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        # A file, not a pipe: hundreds of streams say more than a pipe holds before anybody reads it.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the result)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.loadgen"],
            stdin=subprocess.PIPE,
            stdout=self._said,
            cwd=REPO,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(spec))
        self._process.stdin.close()
        self._process.stdin = None

    def running(self) -> bool:
        """Return whether the load still runs."""
        return self._process.poll() is None

    def result(self) -> LoadResult:
        """Return what the load saw, waiting for its end. Raises TargetFailed when it broke."""
        self._process.wait(timeout=self._spec.timeout_s * 40 + 60)
        with self._said:
            self._said.seek(0)
            data = self._said.read()
        if self._process.returncode != 0:
            raise TargetFailed("the load generator broke; its traceback is above")
        result = msgspec.json.decode(data, type=LoadResult)
        if result.error:
            raise TargetFailed(result.error)
        return result


def run_load(spec: LoadSpec) -> LoadResult:
    """Return the result of one load, run to its end."""
    return Load(spec).result()


def program(name: str) -> str | None:
    """Return the path of a program on PATH or in the system's sbin folders; None: not installed."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
