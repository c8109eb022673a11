"""Getting a model's files from another member over the lane: resumed, checked, visible once whole.

As `download` does from the hub: files arrive in the hidden folder of the models folder and are moved
into place at the end, the first part last. Space is looked at before the first byte. A transfer that
was cut goes on at its last whole chunk; each chunk and each file is compared with its SHA-256.
"""

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, TypeVar

import filelock

from models_registry.download import DISK_MARGIN_BYTES, REPORT_INTERVAL_S, STAGING
from models_registry.progress import OnProgress, Progress
from models_registry.rpc import file_words
from models_registry.rpc.file_words import (
    CHUNK_BYTES,
    FILE_PURPOSE,
    FileFacts,
    OpenFile,
    Want,
    Whole,
)
from models_registry.rpc.words import WordFault
from nodes.mesh.ids import NodeId
from nodes.runtime.lane.channel import LostCode, TunnelLostError
from nodes.runtime.lane.tunnel import Message, Tunnel

T = TypeVar("T")
WRITE_BYTES = 1 << 20
"""Collected, hashed and written at a time."""
OpenTunnel = Callable[[NodeId, str, bytes], Awaitable[Tunnel]]


class FetchFailed(Exception):
    """The files did not arrive. The text is a sentence for people; what came is kept for the next try."""


class FileFetch:
    """One model from one peer."""

    def __init__(
        self,
        peer: NodeId,
        model: str,
        folder: Path,
        open_tunnel: OpenTunnel,
        threads: Executor,
        on_progress: OnProgress,
    ) -> None:
        """`folder` is the models folder. `on_progress` is called on the loop."""
        self._peer = peer
        self._model = model
        self._folder = folder
        self._staging = (
            folder / STAGING / f"peer--{hashlib.sha256(model.encode()).hexdigest()[:16]}"
        )
        self._open_tunnel = open_tunnel
        self._threads = threads
        self._on_progress = on_progress
        self._done_bytes = self._total_bytes = 0
        self._reported_s = 0.0

    async def run(self) -> list[Path]:
        """Return the files, now in place, the first part first. Raises: FetchFailed."""
        try:
            tunnel = await self._open_tunnel(
                self._peer, FILE_PURPOSE, file_words.encode(OpenFile(self._model))
            )
        except TunnelLostError as error:
            raise FetchFailed(self._sentence(str(error))) from error
        try:
            listed = file_words.decode_files(tunnel.acceptance)
            with self._only_process():
                wanted = await self._in_thread(self._prepare, listed.files)
                for number, file in wanted:
                    await self._fetch(tunnel, number, file)
                await self._in_thread(self._into_place, [file for _, file in wanted])
            tunnel.end()
        except TunnelLostError as error:
            raise FetchFailed(self._sentence(f"{error}; what has come is kept")) from error
        except WordFault as fault:
            raise FetchFailed(self._sentence(f"the peer sent {fault}")) from fault
        except OSError as error:
            raise FetchFailed(
                f"{self._model} cannot be written to {self._folder} ({error.strerror or error}):"
                " free some space there, or choose another folder with --models-dir"
            ) from error
        finally:
            tunnel.abort(LostCode.CANCELLED, "given up")
        return [self._folder / file.name for file in listed.files]

    def _sentence(self, reason: str) -> str:
        return f"{self._model} could not be fetched from {self._peer[:12]}: {reason}"

    # --- before -----------------------------------------------------------------------------------

    def _only_process(self) -> AbstractContextManager[object]:
        self._staging.mkdir(parents=True, exist_ok=True)
        try:
            return filelock.FileLock(self._staging / "lock", timeout=0).acquire()
        except filelock.Timeout:
            raise FetchFailed(
                f"{self._model} is being fetched by another process: wait for it"
            ) from None

    def _prepare(self, files: list[FileFacts]) -> list[tuple[int, FileFacts]]:
        """Return the files that are missing, after looking at the disk. Blocks."""
        wanted = []
        for number, file in enumerate(files):
            place = self._folder / file.name
            if not place.exists():
                wanted.append((number, file))
            elif place.stat().st_size != file.size_bytes:
                raise FetchFailed(
                    f"{place} is another file than the peer's {file.name}: move it away first"
                )
        there = sum(part.stat().st_size for part in self._staging.glob("*.part"))
        self._total_bytes = sum(file.size_bytes for _, file in wanted)
        needed = max(self._total_bytes - there, 0) + DISK_MARGIN_BYTES
        free = shutil.disk_usage(self._folder).free
        if wanted and needed > free:
            raise FetchFailed(
                f"{self._model} needs {needed / 1e9:.1f} GB on disk and {self._folder} has"
                f" {free / 1e9:.1f} GB free: free {(needed - free) / 1e9:.1f} GB there, or choose"
                " another folder with --models-dir"
            )
        return wanted

    # --- one file ---------------------------------------------------------------------------------

    async def _fetch(self, tunnel: Tunnel, number: int, file: FileFacts) -> None:
        part = self._staging / _part_name(file)
        kept_bytes, whole = await self._in_thread(_resume, part, file.size_bytes)
        self._count(kept_bytes)
        await tunnel.tell(file_words.encode(Want(number, kept_bytes)))
        with part.open("r+b", buffering=0) as out:
            out.seek(kept_bytes)
            await self._receive(tunnel, file, out, kept_bytes, whole)
            await self._in_thread(os.fsync, out.fileno())
        self._report("checking")
        word = file_words.decode_sum(await _message(tunnel))
        if not isinstance(word, Whole):
            raise WordFault("a checksum out of place")
        if word.sha256 != whole.digest():
            part.unlink()
            raise FetchFailed(f"{file.name} arrived damaged and was deleted: try again")

    async def _receive(
        self, tunnel: Tunnel, file: FileFacts, out: BinaryIO, at: int, whole: "hashlib._Hash"
    ) -> None:
        """Receive chunks until the file is there; a damaged one is cut off again."""
        held = bytearray()
        while at < file.size_bytes:
            end = min(at - at % CHUNK_BYTES + CHUNK_BYTES, file.size_bytes)
            chunk, start = hashlib.sha256(), at
            while at < end:
                content = await tunnel.read()
                if not isinstance(content, bytes) or at + len(held) + len(content) > end:
                    raise WordFault("bytes out of place")
                held += content
                if len(held) >= WRITE_BYTES or at + len(held) == end:
                    await self._in_thread(_write, out, bytes(held), (chunk, whole))
                    at += len(held)
                    self._count(len(held))
                    held.clear()
            word = file_words.decode_sum(await _message(tunnel))
            if word.sha256 != chunk.digest() or isinstance(word, Whole):
                out.truncate(start)
                raise FetchFailed(self._sentence("a chunk arrived damaged; try again"))

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    # --- after ------------------------------------------------------------------------------------

    def _into_place(self, files: list[FileFacts]) -> None:
        """Move the files to where they are found, the first part last. Blocks."""
        for file in sorted(files, key=lambda one: one.name, reverse=True):
            part = self._staging / _part_name(file)
            part.replace(self._folder / file.name)
        shutil.rmtree(self._staging, ignore_errors=True)

    def _count(self, count_bytes: int) -> None:
        self._done_bytes += count_bytes
        now_s = time.monotonic()
        whole = self._done_bytes >= self._total_bytes
        if whole or now_s - self._reported_s >= REPORT_INTERVAL_S:
            self._reported_s = now_s
            self._report("downloading")

    def _report(self, phase: str) -> None:
        self._on_progress(Progress(self._model, phase, self._done_bytes, self._total_bytes))


def _part_name(file: FileFacts) -> str:
    return f"{file.name}.{file.size_bytes}.part"


def _resume(part: Path, size_bytes: int) -> tuple[int, "hashlib._Hash"]:
    """Return what of a file has come, in whole chunks, and its hash so far. Blocks."""
    part.touch()
    whole = hashlib.sha256()
    there = min(part.stat().st_size, size_bytes)
    kept = there if there == size_bytes else there - there % CHUNK_BYTES
    os.truncate(part, kept)
    with part.open("rb") as file:
        while block := file.read(WRITE_BYTES):
            whole.update(block)
    return kept, whole


def _write(out: BinaryIO, content: bytes, sums: tuple["hashlib._Hash", ...]) -> None:
    """Write all of it, and hash it. Blocks. Raises: OSError."""
    view = memoryview(content)
    while view:
        view = view[out.write(view) :]
    for one in sums:
        one.update(content)


async def _message(tunnel: Tunnel) -> bytes:
    part = await tunnel.read()
    if not isinstance(part, Message):
        raise WordFault("a checksum that is missing")
    return part.body
