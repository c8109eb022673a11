"""Files that only the node's owner may read: written whole or not at all, refused when others can read them.

Decides nothing about contents. Used for the identity, the mesh key and the token ledger. A write goes
to a temporary name in the same folder, is flushed to disk and then takes its place, so a crash or a
full disk leaves the old file or none, never half of one.
"""

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700
MAX_PRIVATE_BYTES = 1 << 20
"""No private file of ours comes near this; a larger one is not ours."""


class PrivateFileError(Exception):
    """A private file cannot be used. The text is one sentence for a person, with what to do."""


def read(path: Path, what: str) -> bytes | None:
    """Return the file's bytes; None when there is no file.

    `what` names it in error texts, such as ``this node's key``.

    Raises:
        PrivateFileError: it cannot be read, others may read it, or it is too large to be ours.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if sys.platform != "win32" and stat.S_IMODE(facts.st_mode) & 0o077:
                mode = oct(stat.S_IMODE(facts.st_mode))[2:]
                raise PrivateFileError(
                    f"{path} holds {what} but other users may read it (mode {mode}): "
                    f"run `chmod 600 {path}`, or remove the file if somebody may have copied it."
                )
            content = file.read(MAX_PRIVATE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PrivateFileError(
            f"{path} holds {what} but cannot be read ({error.strerror or error}): "
            "make it readable for this user, or choose another home with MESH_LLM_HOME."
        ) from error
    if len(content) > MAX_PRIVATE_BYTES:
        raise PrivateFileError(
            f"{path} is too large to hold {what}: move it away, or choose another MESH_LLM_HOME."
        )
    return content


def write(path: Path, content: bytes, what: str, *, replace: bool = True) -> None:
    """Write the file whole, mode 0600, its folder 0700 if it has to be made.

    Raises:
        FileExistsError: `replace` is False and the file is there already.
        PrivateFileError: the folder or file cannot be written; nothing was changed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        _write_synced(temporary, content)
        if replace:
            temporary.replace(path)
        else:
            _place_new(temporary, path)
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise PrivateFileError(
            f"{path} cannot be written ({error.strerror or error}), so {what} cannot be kept: "
            "free some disk space or make the folder writable, or choose another MESH_LLM_HOME."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, opened with its mode
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _place_new(temporary: Path, path: Path) -> None:
    """Give the file its name unless the name is taken: a hard link does both in one step."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # File systems without hard links: the two steps are all there is.
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
