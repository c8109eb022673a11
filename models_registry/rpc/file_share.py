"""Serving a model's files to other members over the lane.

Decides nothing about who: the lane admits full members only, and the node says which models are shared.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path

from models_registry.rpc import file_words
from models_registry.rpc.digests import Digests
from models_registry.rpc.file_words import CHUNK_BYTES, Chunk, FileFacts, FileList, Whole
from models_registry.rpc.weights import BLOCK_BYTES, WeightFile, WeightFiles, WeightsFault, open_all
from models_registry.rpc.words import WordFault
from nodes.runtime.lane.channel import LostCode
from nodes.runtime.lane.lane import Incoming
from nodes.runtime.lane.tunnel import Message, Tunnel

TRANSFERS_MAX = 8
"""At a time; a further one is refused and may ask another peer, or later."""


class FileShare:
    """The models that others may have."""

    def __init__(self, digests: Digests, threads: Executor) -> None:
        self._digests = digests
        self._threads = threads
        self._models: dict[str, tuple[Path, ...]] = {}
        self._transfers = 0

    def share(self, models: Mapping[str, list[Path]]) -> None:
        """These are shared from now on, and no others: a model's name -> its files."""
        self._models = {name: tuple(paths) for name, paths in models.items()}

    async def serve(self, incoming: Incoming) -> None:
        """Serve one tunnel; the handler of `FILE_PURPOSE`."""
        try:
            asked = file_words.decode_open(incoming.details)
        except WordFault as fault:
            incoming.refuse(LostCode.REFUSED, str(fault))
            return
        paths = self._models.get(asked.model)
        if paths is None:
            incoming.refuse(LostCode.REFUSED, f"{asked.model[:60]} is not here")
            return
        if self._transfers >= TRANSFERS_MAX:
            incoming.refuse(LostCode.REFUSED, f"{TRANSFERS_MAX} transfers are under way already")
            return
        self._transfers += 1
        try:
            await self._transfer(incoming, paths)
        finally:
            self._transfers -= 1

    async def _transfer(self, incoming: Incoming, paths: tuple[Path, ...]) -> None:
        loop = asyncio.get_running_loop()
        opened, faults = await loop.run_in_executor(self._threads, open_all, list(paths))
        if faults:
            incoming.refuse(LostCode.REFUSED, "; ".join(faults))
            return
        listed = FileList([
            FileFacts(file.path.name, file.identity.size_bytes) for file in opened.files
        ])  # fmt: skip
        tunnel = incoming.accept(file_words.encode(listed))
        try:
            await self._answer(tunnel, opened, listed)
        except (WordFault, WeightsFault) as fault:
            tunnel.abort(LostCode.INTERNAL, str(fault))
        finally:
            await loop.run_in_executor(self._threads, self._digests.save)

    async def _answer(self, tunnel: Tunnel, opened: WeightFiles, listed: FileList) -> None:
        while (part := await tunnel.read()) is not None:
            if not isinstance(part, Message):
                raise WordFault("bytes out of place")
            want = file_words.decode_want(part.body, listed)
            await self._send(tunnel, opened.files[want.number], want.offset)
        tunnel.end()

    async def _send(self, tunnel: Tunnel, file: WeightFile, offset: int) -> None:
        """Send a file from `offset` on, with its checksums."""
        loop = asyncio.get_running_loop()
        size = file.identity.size_bytes
        whole = hashlib.sha256() if offset == 0 else None
        for start in range(offset, size, CHUNK_BYTES):
            chunk = hashlib.sha256()
            for at in range(start, min(start + CHUNK_BYTES, size), BLOCK_BYTES):
                block = bytearray(min(BLOCK_BYTES, size - at))
                sums = (chunk,) if whole is None else (chunk, whole)
                await loop.run_in_executor(self._threads, _read, file, at, block, sums)
                await tunnel.write(memoryview(block))
            await tunnel.tell(file_words.encode(Chunk(chunk.digest())))
        if whole is not None:
            self._digests.keep(file.whole(), whole.digest())
        digest = await loop.run_in_executor(self._threads, self._digests.of, file.whole())
        await tunnel.tell(file_words.encode(Whole(digest)))


def _read(file: WeightFile, at: int, block: bytearray, sums: tuple["hashlib._Hash", ...]) -> None:
    """Fill `block` from a file that is still what it was, and hash it. Blocks. Raises: WeightsFault."""
    file.read_into(at, memoryview(block))
    if not file.is_unchanged():
        raise WeightsFault(f"{file.path.name} is being changed")
    for one in sums:
        one.update(block)
