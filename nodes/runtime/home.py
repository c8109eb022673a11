"""The node's folder: who owns it, what lies where, and that only one process uses it.

Everything is owner-only (0700 folders, 0600 files). An identity in memory gets a private temporary
folder that is removed at exit.
"""

import atexit
import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

if sys.platform != "win32":
    import fcntl


OTHERS = Path("run") / "others"
"""One file for each node that runs with an identity in memory, named by its API port."""


class HomeError(Exception):
    """The folder cannot be used; the text says why and what to do."""


@dataclass(slots=True)
class Home:
    """A prepared folder, held by this process until `close`."""

    path: Path
    base: Path
    """Where what nodes of one person share lies (the engine); `path` unless that is temporary."""
    ephemeral: bool
    secret: str
    _lock_fd: int | None = field(default=None, repr=False)
    _found_by: Path | None = field(default=None, repr=False)

    @property
    def logs(self) -> Path:
        """Rotated logs of the node and its engines."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """What holds for this run only: lock, secret, children, where the node listens."""
        return self.path / "run"

    @property
    def database(self) -> Path:
        """The default SQLite file."""
        return self.path / "db.sqlite3"

    def write_running(self, facts: dict[str, Any]) -> None:
        """Tell other commands of this home where the node listens, and which process it is."""
        target = self.run / "node.json"
        draft = target.with_suffix(".tmp")
        own = {"pid": os.getpid(), "started_at": psutil.Process().create_time()}
        draft.write_text(json.dumps(facts | own), "utf-8")
        draft.replace(target)
        if self.ephemeral:
            self._be_found(int(facts["api_port"]))

    def _be_found(self, api_port: int) -> None:
        """An identity in memory has a folder nobody knows: words with `--port` find it through its base."""
        with contextlib.suppress(OSError):
            folder = self.base / OTHERS
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._found_by = folder / f"{api_port}"
            self._found_by.write_text(str(self.path), "utf-8")

    def close(self) -> None:
        """Give the folder back; an ephemeral one is removed. May be called twice."""
        if self._found_by is not None:
            self._found_by.unlink(missing_ok=True)
        (self.run / "node.json").unlink(missing_ok=True)
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
        if self.ephemeral:
            shutil.rmtree(self.path, ignore_errors=True)
            # The database's last write may still run in its thread and put files back: once more
            # when the interpreter has waited for its threads.
            atexit.register(shutil.rmtree, self.path, ignore_errors=True)


def home_of_port(base: Path, api_port: int) -> Path:
    """Return the folder of the node with this API port: one with an identity in memory, else `base`."""
    try:
        path = Path((base / OTHERS / f"{api_port}").read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return base
    return path if read_running(path) else base


def read_running(home: Path) -> dict[str, Any] | None:
    """Return what the running node of this home wrote, or None when none runs.

    A node that was killed leaves its words behind; by now its port may be anybody's, who must not be
    sent the home's secret.
    """
    try:
        found: dict[str, Any] = json.loads((home / "run" / "node.json").read_text("utf-8"))
        alive = psutil.Process(int(found["pid"])).create_time() == found["started_at"]
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return found if alive else None


def read_secret(home: Path) -> str | None:
    """Return the home's secret, or None when there is no home or it cannot be read."""
    try:
        return (home / "run" / "secret").read_text("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def enter(base: Path, *, ephemeral: bool) -> Home:
    """Return the prepared and locked folder.

    Raises:
        HomeError: it cannot be made, read or written, or another process uses it.
    """
    os.umask(0o077)
    path = Path(tempfile.mkdtemp(prefix="mesh-llm-")) if ephemeral else base
    try:
        for folder in (path, path / "logs", path / "run"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise HomeError(cannot_use(folder, "it is not readable and writable for you"))
            folder.chmod(0o700)  # one that was there may be open to others
        lock_fd = _lock(path)
        return Home(path, base, ephemeral, _secret(path / "run" / "secret"), lock_fd)
    except BaseException as error:
        if ephemeral:
            shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, OSError):
            raise HomeError(cannot_use(path, error.strerror or str(error))) from error
        raise


def cannot_use(path: Path, why: str) -> str:
    """Return the sentence of a `HomeError`: what is wrong with this folder, and what to do."""
    return (
        f"The node's folder {path} cannot be used: {why}. "
        "Mend its owner and permissions, or set MESH_LLM_HOME to another folder."
    )


def _lock(path: Path) -> int | None:
    if sys.platform == "win32":
        return None  # no flock there: the folder is guarded by the ports alone
    lock_fd = os.open(path / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock_fd)
        raise HomeError(_in_use(path)) from error
    return lock_fd


def _in_use(path: Path) -> str:
    running = read_running(path) or {}
    who = f" (pid {running['pid']}, API on port {running['api_port']})" if running else ""
    return (
        f"Another mesh-llm node{who} already uses {path}. Stop it with `mesh-llm stop`, or give this "
        "one an own folder (MESH_LLM_HOME=DIR) or an identity in memory (MESH_LLM_EPHEMERAL_KEY=1)."
    )


def _secret(path: Path) -> str:
    try:
        found = path.read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        found = ""  # None yet, or garbage, which proves nothing to anybody: made afresh.
    if found:
        return found
    made = secrets.token_urlsafe(32)
    draft = path.with_suffix(".tmp")
    draft.write_text(made + "\n", "ascii")
    draft.chmod(0o600)
    draft.replace(path)
    return made
