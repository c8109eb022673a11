"""Puts an engine into the home, all or nothing.

An engine is made in a temporary folder beside its place, run there, moved into place and run again;
whatever was there stays until then and comes back if the new one does not run. What a killed attempt
left is removed by the next one. Decides which way to get it; `debian` and `source` know how.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from models_registry.engine import debian, source
from models_registry.engine.faults import EngineBroken, InstallFailed
from models_registry.engine.find import CACHE_FOLDER, HOME_FOLDER, SERVER_NAME
from models_registry.engine.probe import Engine, probe, rpc_server_beside, run_engine
from models_registry.engine.steps import Progress

LOCK_NAME = ".engine.lock"
NEW_PREFIX = ".engine-new-"
OLD_NAME = ".engine-old"
LOCK_WAIT_S = 3600.0
"""How long a second install waits for the first: longer than a source build takes."""
Recipe = Callable[[Path, Path, Path, Progress], list[str]]


class Method(StrEnum):
    """How to get an engine."""

    AUTO = "auto"
    """Debian's packages where they fit, else a build."""
    DEBIAN = "debian"
    SOURCE = "source"


def install(
    home: Path, progress: Progress, *, force: bool = False, method: Method | str = Method.AUTO
) -> Engine:
    """Return the engine in ``home/engine``, put there if there is none that works (or by `force`).

    Blocks for seconds (Debian) to minutes (source); with a working engine in place, for a few
    milliseconds. A second install waits for a running one.

    Raises:
        InstallFailed: nothing was changed; the text names the next thing to try.
    """
    home = home.expanduser().absolute()
    if not force and (there := working(home)) is not None:
        return there
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _only_one(home, progress):
            _clear_leftovers(home)
            if not force and (there := working(home)) is not None:
                return there
            return _install(home, progress, Method(method))
    except OSError as error:
        raise InstallFailed(
            f"The engine could not be put into {home}: {error.strerror or error}. Check that this user "
            "may write there and that the disk is not full, or set MESH_LLM_HOME to another folder."
        ) from error


def working(home: Path) -> Engine | None:
    """Return the home's own engine if it is there and runs, else None."""
    server = home / HOME_FOLDER / SERVER_NAME
    if not server.is_file():
        return None
    try:
        return probe(server, "home", home / CACHE_FOLDER)
    except EngineBroken:
        return None


def _install(home: Path, progress: Progress, method: Method) -> Engine:
    if method is Method.SOURCE:
        return _make(home, progress, source.build)
    reason = debian.unavailable()
    if method is Method.DEBIAN:
        if reason is not None:
            raise InstallFailed(f"Debian's packages cannot be used: {reason}. Try --method source.")
        return _make(home, progress, debian.build)
    if reason is None:
        try:
            return _make(home, progress, debian.build)
        except InstallFailed as fault:
            reason = str(fault)
    if (no_build := source.unavailable()) is not None:
        raise InstallFailed(
            f"No engine could be installed. Debian's packages: {reason} "
            f"Building it: {no_build}. {source.NEXT_STEP}"
        )
    progress(f"Debian's packages cannot be used ({reason}); building instead", None)
    return _make(home, progress, source.build)


def _make(home: Path, progress: Progress, recipe: Recipe) -> Engine:
    final = home / HOME_FOLDER
    with tempfile.TemporaryDirectory(
        prefix=NEW_PREFIX, dir=home, ignore_cleanup_errors=True
    ) as temp:
        work = Path(temp)
        made = work / HOME_FOLDER
        before = recipe(work, made, final, progress)
        progress("trying it", None)
        _try(made, before)
        return _swap(home, made, final)


def _try(made: Path, before: list[str]) -> None:
    """Run both programs where they were made."""
    server = made / SERVER_NAME
    rpc = rpc_server_beside(server)
    if rpc is None:
        raise InstallFailed(
            "The new engine has no rpc-server. Run `mesh-llm engine install --method source`."
        )
    try:
        run_engine([*before, server, "--version"])
        run_engine([*before, rpc, "--help"])
    except EngineBroken as fault:
        raise InstallFailed(f"The new engine does not run here: {fault}") from fault


def _swap(home: Path, made: Path, final: Path) -> Engine:
    """Move the new engine into place; the old one comes back if the new does not run there."""
    old = home / OLD_NAME
    if final.exists() or final.is_symlink():
        final.rename(old)
    try:
        made.rename(final)
        engine = probe(final / SERVER_NAME, "home", home / CACHE_FOLDER)
    except (EngineBroken, OSError) as fault:
        _remove(final)
        if old.exists() or old.is_symlink():
            old.rename(final)
        raise InstallFailed(
            f"The new engine does not run in {final}, the old one is back: {fault}"
        ) from fault
    _remove(old)
    return engine


def _clear_leftovers(home: Path) -> None:
    """Undo what a killed attempt left: its temporary folders, and an old engine that was moved aside."""
    for stale in home.glob(f"{NEW_PREFIX}*"):
        _remove(stale)
    old, final = home / OLD_NAME, home / HOME_FOLDER
    if old.exists() or old.is_symlink():
        if final.exists() or final.is_symlink():
            _remove(old)
        else:
            old.rename(final)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _only_one(home: Path, progress: Progress) -> Iterator[None]:
    """Hold the home's install lock; the system frees it when this process ends, however it ends."""
    lock = FileLock(home / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("another install is running: waiting for it", None)
        try:
            lock.acquire(timeout=LOCK_WAIT_S)
        except Timeout as error:
            raise InstallFailed(
                f"Another install has held {home / LOCK_NAME} for an hour. End it and try again."
            ) from error
    try:
        yield
    finally:
        lock.release()
