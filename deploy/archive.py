"""A folder laid out, summed and packed: the same content gives the same bytes, whoever packs it when.

All or nothing: the archive is written under another name and takes its place when it is whole.
"""

import gzip
import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from deploy.faults import BundleFailed

SUMS_NAME = "SHA256SUMS"
FILES_MAX = 20_000
"""A bundle has about 1,200."""
BYTES_MAX = 4_000_000_000
"""Before packing. A bundle has 130 MB; one with a GPU's libraries may have ten times that."""
MTIME_S = 946_684_800
"""One time for every file (2000-01-01 UTC), for the same bytes; zip and old tools take it too."""
LEFT_OUT = ("__pycache__", "*.pyc", ".*")


def copy_tree(source: Path, into: Path) -> None:
    """Copy a folder without compiled and hidden files; links become what they point to."""
    shutil.copytree(source, into, ignore=shutil.ignore_patterns(*LEFT_OUT))


def files_of(root: Path) -> list[Path]:
    """Return every file under `root`, sorted by its path as text.

    Raises:
        BundleFailed: more, or larger, than a bundle may be.
    """
    found = [path for path in root.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in found)
    if len(found) > FILES_MAX or total > BYTES_MAX:
        raise BundleFailed(
            f"The bundle would hold {len(found)} files of {total / 1e6:.0f} MB, more than the "
            f"{FILES_MAX} files or {BYTES_MAX / 1e6:.0f} MB it may: look what is in {root}."
        )
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def write_sums(root: Path) -> None:
    """Write the sums of all files under `root`, in sha256sum's format."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root).as_posix()}\n"
        for path in files_of(root)
        if path.relative_to(root).as_posix() != SUMS_NAME
    ]
    (root / SUMS_NAME).write_text("".join(lines), "utf-8")


def pack(root: Path, archive: Path) -> None:
    """Write `root` as a tar.gz in which everything lies in a folder of root's name."""
    part = archive.with_name(f".{archive.name}.part")
    try:
        with (
            part.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=MTIME_S) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for info, path in _entries(root):
                with path.open("rb") as content:
                    tar.addfile(info, content)
        part.replace(archive)
    finally:
        part.unlink(missing_ok=True)


def _entries(root: Path) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    for path in files_of(root):
        info = tarfile.TarInfo(f"{root.name}/{path.relative_to(root).as_posix()}")
        found = path.stat()
        info.size = found.st_size
        info.mode = 0o755 if found.st_mode & 0o100 else 0o644
        info.mtime = MTIME_S
        yield info, path
