"""Fetches a model from the hub into the models folder: resumed, checked, and visible only once whole.

Files arrive in a hidden folder (`.downloads`) and are moved into place at the end, the first part of a
sharded set last, so that no scan ever sees half a model. huggingface_hub does the talking (endpoint,
token, redirects, ranges, retries); keeping a part over a restart is ours, because its 2.x deletes
partial files at exit. It is imported only when something is downloaded.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from models_registry.hub_errors import DownloadFailed, explain
from models_registry.progress import OnProgress, Progress
from models_registry.shards import family, model_stem, names_projector, projector_family, shard_name

STAGING = ".downloads"
"""Folder inside the models folder; names that begin with a dot are never scanned."""
DISK_MARGIN_BYTES = 512 * 1024 * 1024
"""Unit: bytes that must stay free beside the download: logs and database live on the same disk."""
REPORT_INTERVAL_S = 0.1
"""Unit: s between two reports of progress."""
METADATA_TIMEOUT_S = 20.0
HASH_CHUNK_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 256 * 1024
"""Unit: bytes that arrive between two writes. huggingface_hub's own 10 MiB would move the progress of a
slow line every ten seconds, and lose as much at a cut."""
FILES_MAX = 1100
"""Files of one model: parts and a projector. See `shards.SHARDS_MAX`."""

_SPEC = re.compile(r"^(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^\s].*\.gguf)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file to fetch."""

    path: str
    """Inside the repository."""
    size_bytes: int
    lands_as: str
    """File name in the models folder."""


def split_spec(spec: str) -> tuple[str, str] | None:
    """Return (``org/repo``, path in it) of ``org/repo/file.gguf``, or None when it is not of that form."""
    match = _SPEC.match(spec)
    if match is None or ".." in PurePosixPath(match["file"]).parts:
        return None
    return match["repo"], match["file"]


def fetch(
    repo: str, file: str, models_dir: Path, on_progress: OnProgress, *, mmproj: str | None = None
) -> Path:
    """Return the path of a model that is now whole in `models_dir`, with all its parts and its projector.

    Blocks: to be called from a thread. A file that is already there is not fetched again.

    Raises:
        DownloadFailed: every expected fault, as a sentence that says what to do; partial files are kept.
    """
    name = model_stem(PurePosixPath(file).name)
    on_progress(Progress(name, "looking"))
    with explain(repo, file):
        files = _choose(_listing(repo), repo, file, mmproj)
        staging = models_dir / STAGING / repo.replace("/", "--")
        _make_folder(staging)
        wanted = [one for one in files if not (models_dir / one.lands_as).exists()]
        _require_disk(name, models_dir, wanted, staging)
        with _only_process(staging, name):
            counter = _Counter(name, sum(one.size_bytes for one in wanted), on_progress)
            arrived = [(_fetch_one(repo, one, staging, counter), one) for one in wanted]
            # The first part last: until it is there, nothing is listed.
            for path, one in sorted(arrived, key=lambda pair: pair[1].lands_as, reverse=True):
                path.replace(models_dir / one.lands_as)
    shutil.rmtree(staging, ignore_errors=True)
    return models_dir / files[0].lands_as


def _listing(repo: str) -> dict[str, int]:
    """Return path -> size in bytes of a repository's files, as the hub states them."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repo, files_metadata=True, timeout=METADATA_TIMEOUT_S)
    return {one.rfilename: one.size or 0 for one in info.siblings or ()}


def _choose(listing: dict[str, int], repo: str, file: str, mmproj: str | None) -> list[HubFile]:
    """Return the model's files, its first part first. Raises DownloadFailed when one is missing."""
    if file not in listing:
        near = sorted(path for path in listing if path.lower().endswith(".gguf"))
        shown = ", ".join(near[:8]) + (" ..." if len(near) > 8 else "")
        raise DownloadFailed(
            f"{repo} has no file {file}. "
            + (f"It has: {shown}" if near else "It has no GGUF file at all.")
        )
    folder = PurePosixPath(file).parent
    place = shard_name(PurePosixPath(file).name)
    names = (
        [place.file_name(number) for number in range(1, place.count + 1)]
        if place
        else [PurePosixPath(file).name]
    )
    paths = [str(folder / name) for name in names]
    missing = [path for path in paths if path not in listing]
    if missing or len(paths) > FILES_MAX:
        raise DownloadFailed(
            f"{repo} is incomplete: of the parts of {file} it lacks {', '.join(missing[:3])}"
        )
    files = [HubFile(path, listing[path], PurePosixPath(path).name) for path in paths]
    projector = mmproj or _projector(listing, file)
    if projector:
        if projector not in listing:
            raise DownloadFailed(f"{repo} has no file {projector}, the vision projector of {file}")
        # Repositories all call it mmproj-model-f16.gguf: in one folder it needs its model's name.
        lands_as = f"mmproj-{family(model_stem(PurePosixPath(file).name))}.gguf"
        files.append(HubFile(projector, listing[projector], lands_as))
    return files


def _projector(listing: dict[str, int], file: str) -> str | None:
    """Return the smallest projector of a repository that fits a model's name, or None."""
    own = family(model_stem(PurePosixPath(file).name))
    found = [
        path
        for path in listing
        if path.lower().endswith(".gguf")
        and names_projector(PurePosixPath(path).name)
        and projector_family(PurePosixPath(path).name) in ("", own)
    ]
    return min(found, key=lambda path: (listing[path], path), default=None)


def _require_disk(name: str, models_dir: Path, wanted: list[HubFile], staging: Path) -> None:
    there = sum(part.stat().st_size for part in staging.glob("*.part"))
    needed = max(sum(one.size_bytes for one in wanted) - there, 0)
    free = shutil.disk_usage(models_dir).free
    if wanted and needed + DISK_MARGIN_BYTES > free:
        short = needed + DISK_MARGIN_BYTES - free
        raise DownloadFailed(
            f"{name} needs {needed / 1e9:.1f} GB more on disk and {models_dir} has {free / 1e9:.1f} GB free:"
            f" free {short / 1e9:.1f} GB there, or choose another folder with --models-dir"
        )


def _make_folder(staging: Path) -> None:
    try:
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadFailed(
            f"the folder {staging.parent.parent} cannot be written ({error.strerror}):"
            " choose another one with --models-dir"
        ) from None


@contextmanager
def _only_process(staging: Path, name: str) -> Iterator[None]:
    import filelock

    lock = filelock.FileLock(staging / "lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise DownloadFailed(
            f"{name} is being downloaded by another process: wait for it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _fetch_one(repo: str, one: HubFile, staging: Path, counter: "_Counter") -> Path:
    """Return the path of one whole, checked file in the staging folder."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    url = hf_hub_url(repo, one.path)
    headers = build_hf_headers()
    metadata = get_hf_file_metadata(url, headers=headers, timeout=METADATA_TIMEOUT_S)
    etag, size = str(metadata.etag or "none"), int(metadata.size or one.size_bytes)
    tag = hashlib.sha256(f"{one.path}:{etag}".encode()).hexdigest()[:12]
    part = staging / f"{one.lands_as}.{tag}.part"
    part.touch()
    with part.open("r+b") as file:
        kept = min(file.seek(0, os.SEEK_END), size)
        file.seek(kept)
        file.truncate()
        counter.add(kept)
        http_get(
            metadata.location,
            cast("BinaryIO", _Counted(file, counter)),
            resume_size=kept,
            headers=_headers_for(url, metadata.location, headers),
            expected_size=size,
        )
    _require_digest(part, etag, counter)
    return part


def _headers_for(url: str, location: str, headers: dict[str, str]) -> dict[str, str]:
    """Return the headers for a file's real location: without the token where that is another host."""
    from urllib.parse import urlsplit

    if urlsplit(url).netloc == urlsplit(location).netloc:
        return headers
    return {key: value for key, value in headers.items() if key.lower() != "authorization"}


def _require_digest(part: Path, etag: str, counter: "_Counter") -> None:
    """Compare with the hub's SHA-256 where it gives one. A wrong file is deleted: it would stay wrong."""
    if not re.fullmatch(r"[0-9a-f]{64}", etag):
        return
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
            counter.checking(file.tell())
    if digest.hexdigest() != etag:
        part.unlink()
        raise DownloadFailed(
            f"{part.name.split('.gguf')[0]}.gguf arrived damaged and was deleted: try again"
        )


class _Counter:
    """Adds up the bytes of all files and reports them, not too often."""

    def __init__(self, name: str, total: int, on_progress: OnProgress) -> None:
        self._name = name
        self._total = total
        self._on_progress = on_progress
        self._done = 0
        self._last_s = 0.0

    def add(self, count: int) -> None:
        """Count bytes that arrived, or with a negative number bytes that were thrown away."""
        self._done += count
        self._report("downloading", self._done)

    def checking(self, done: int) -> None:
        """Report that one file is being compared with its checksum."""
        self._report("checking", done)

    def _report(self, phase: str, done: int) -> None:
        now = time.monotonic()
        if now - self._last_s >= REPORT_INTERVAL_S or done >= self._total:
            self._last_s = now
            self._on_progress(Progress(self._name, phase, min(done, self._total), self._total))


class _Counted:
    """A file that tells a counter what is written to it: the part of a file that `http_get` uses."""

    def __init__(self, file: IO[bytes], counter: _Counter) -> None:
        self._file = file
        self._counter = counter

    def write(self, data: bytes) -> int:
        self._counter.add(len(data))
        return self._file.write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        before = self._file.seek(0, os.SEEK_END)
        after = self._file.truncate(size)
        self._counter.add(after - before)
        return after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
