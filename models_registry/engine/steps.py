"""How an install runs its commands: with progress, a bounded time, and errors a person can act on."""

import collections
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from models_registry.engine.faults import InstallFailed

Progress = Callable[[str, float | None], None]
"""Called with what is being done and how far it is, 0 to 1; None when that is not known."""

LAST_LINES = 6
"""How much of a failed command's output its error carries."""
POLL_S = 0.1
_PERCENT = re.compile(r"^\[\s*(\d+)%\]")


def run(
    argv: Sequence[str | Path],
    *,
    doing: str,
    next_step: str,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    tick: Callable[[], None] = lambda: None,
    log: Path | None = None,
) -> str:
    """Return the command's output (both streams); `tick` is called some times a second meanwhile.

    The output also stays in `log`, for `log_percent`; None: it is kept nowhere.

    Raises:
        InstallFailed: not there, too slow or not successful; the text ends with `next_step`.
    """
    try:
        with tempfile.TemporaryFile() if log is None else log.open("w+b") as out:
            process = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=None if env is None else {**os.environ, **env},
            )
            try:
                _wait(process, timeout_s, tick)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            out.seek(0)
            text = out.read().decode("utf-8", "replace")
    except OSError as error:
        raise InstallFailed(
            f"{doing}: {argv[0]} cannot be run: {error.strerror}. {next_step}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise InstallFailed(
            f"{doing} took over {timeout_s:g} s and was ended. {next_step}"
        ) from error
    if process.returncode != 0:
        raise InstallFailed(f"{doing} failed: {_gist(text).rstrip('.')}. {next_step}")
    return text


def log_percent(log: Path) -> float | None:
    """Return how far a running make is, by the last ``[ 42%]`` of its log; None: not said yet."""
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        if match := _PERCENT.match(line):
            return int(match[1]) / 100
    return None


def need_space(folder: Path, bytes_needed: int) -> None:
    """Check that the disk has room, before anything is downloaded.

    Raises:
        InstallFailed: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < bytes_needed:
        raise InstallFailed(
            f"The engine needs {bytes_needed / 1e6:.0f} MB free and the disk of {folder} has "
            f"{free / 1e6:.0f} MB. Free some, or set MESH_LLM_HOME to a folder on a larger disk."
        )


def _wait(process: "subprocess.Popen[bytes]", timeout_s: float, tick: Callable[[], None]) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise
            tick()
        else:
            return


def _gist(text: str) -> str:
    """Return the lines that tell: apt's and the compilers' errors, else the last ones."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if line.startswith(("E:", "Err:", "ERROR", "CMake Error")) or "error:" in line.casefold()
    ]
    kept = collections.deque(telling or lines, maxlen=LAST_LINES)
    return " | ".join(line[:300] for line in kept) or "it printed nothing"
