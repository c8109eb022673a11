"""A model fetched from a peer: whole, resumed, checked, and only where there is room for it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models_registry.progress import Progress
from models_registry.rpc import file_fetch, file_words
from models_registry.rpc.digests import Digests
from models_registry.rpc.file_fetch import FetchFailed, FileFetch
from models_registry.rpc.file_share import FileShare
from models_registry.rpc.file_words import (
    CHUNK_BYTES,
    FILE_PURPOSE,
    FileFacts,
    FileList,
    OpenFile,
    Want,
    Whole,
)
from models_registry.rpc.words import WordFault
from nodes.runtime.lane.channel import TunnelLostError
from nodes.runtime.lane.lane import Incoming
from tests.models_registry.rpc.model_file import tensors, write_model
from tests.nodes.lane.lab import LabLane, lanes

MIB = 1 << 20


@dataclass
class Peers:
    getter: LabLane
    owner: LabLane
    share: FileShare
    threads: ThreadPoolExecutor
    seen: list[Progress]

    def fetch(
        self, model: str, folder: Path, *, at_bytes: int = 0, do: Callable[[], Any] | None = None
    ) -> FileFetch:
        """Return a fetch; `do` is called once, when so much has come."""
        waiting = [do] if do is not None else []

        def progressed(at: Progress) -> None:
            self.seen.append(at)
            if waiting and at.done_bytes >= at_bytes:
                waiting.pop()()

        return FileFetch(
            self.owner.id, model, folder, self.getter.lane.open, self.threads, progressed
        )


@contextlib.asynccontextmanager
async def peers(models: dict[str, list[Path]], *, serve: Any = None) -> AsyncIterator[Peers]:
    threads = ThreadPoolExecutor(4)
    share = FileShare(Digests(None), threads)
    share.share(models)
    async with lanes() as lab:
        getter = await lab.lane()
        owner = await lab.lane(handlers={FILE_PURPOSE: serve or share.serve})
        getter.knows(owner)
        yield Peers(getter, owner, share, threads, [])
    threads.shutdown(wait=False)


def big_model(folder: Path) -> Path:
    """Return a model of three chunks and a rest."""
    return write_model(folder / "big.gguf", tensors(*[5 * MIB] * 5))


def long_model(folder: Path) -> Path:
    """Return a model that is still on its way when its first chunks are seen: buffers hold far less."""
    return write_model(folder / "big.gguf", tensors(*[5 * MIB] * 24))


async def test_a_model_of_parts_arrives_whole_and_is_visible_only_then(tmp_path: Path) -> None:
    parts = [
        write_model(tmp_path / "owner" / f"m-0000{n}-of-00002.gguf", tensors(9 * MIB, seed=str(n)))
        for n in (1, 2)
    ]
    folder = tmp_path / "models"
    folder.mkdir()
    async with peers({"m": parts}) as pair:
        fetched = await pair.fetch("m", folder).run()
        assert fetched == [folder / part.name for part in parts]
        assert [p.read_bytes() for p in fetched] == [p.read_bytes() for p in parts]
        assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == [
            p.name for p in parts
        ]
        assert not list((folder / ".downloads").iterdir())
        last = pair.seen[-1]
        assert (last.phase, last.name) == ("checking", "m")
        assert last.done_bytes == last.total_bytes == sum(p.stat().st_size for p in parts)
        # Once more costs nothing.
        pair.seen.clear()
        assert await pair.fetch("m", folder).run() == fetched
        assert not pair.seen


async def test_a_cut_transfer_goes_on_at_its_last_whole_chunk(tmp_path: Path) -> None:
    model = long_model(tmp_path / "owner")
    folder = tmp_path / "models"
    folder.mkdir()
    async with peers({"big": [model]}) as pair:

        def cut() -> None:
            for channel in pair.owner.channels:
                channel.wire._transport.abort()

        fetch = pair.fetch("big", folder, at_bytes=CHUNK_BYTES + MIB, do=cut)
        with pytest.raises(FetchFailed, match="what has come is kept"):
            await fetch.run()
        assert not (folder / "big.gguf").exists()
        (part,) = (folder / ".downloads").rglob("*.part")
        there = part.stat().st_size
        assert CHUNK_BYTES <= there < model.stat().st_size
        sent_before = sum(c.wire.sent_bytes for c in pair.owner.channels)
        pair.seen.clear()
        await pair.fetch("big", folder).run()
        assert (folder / "big.gguf").read_bytes() == model.read_bytes()
        assert pair.seen[0].done_bytes >= there - there % CHUNK_BYTES
        sent = sum(c.wire.sent_bytes for c in pair.owner.channels) - sent_before
        assert sent < model.stat().st_size - CHUNK_BYTES + 100_000


async def test_a_part_that_was_damaged_on_disk_is_found_and_thrown_away(tmp_path: Path) -> None:
    model = big_model(tmp_path / "owner")
    folder = tmp_path / "models"
    async with peers({"big": [model]}) as pair:
        fetch = pair.fetch("big", folder)
        staging = fetch._staging
        staging.mkdir(parents=True)
        kept = bytearray(model.read_bytes()[: CHUNK_BYTES + 5])
        kept[1000] ^= 1
        part = staging / f"big.gguf.{model.stat().st_size}.part"
        part.write_bytes(kept)
        with pytest.raises(FetchFailed, match="damaged and was deleted"):
            await fetch.run()
        assert not part.exists()
        await pair.fetch("big", folder).run()
        assert (folder / "big.gguf").read_bytes() == model.read_bytes()


async def test_without_room_nothing_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = big_model(tmp_path / "owner")
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr(file_fetch, "DISK_MARGIN_BYTES", 1 << 60)
    async with peers({"big": [model]}) as pair:
        with pytest.raises(FetchFailed, match=r"needs .* GB on disk .* --models-dir"):
            await pair.fetch("big", folder).run()
        assert not list(folder.rglob("*.part"))


async def test_another_file_of_that_name_is_not_overwritten(tmp_path: Path) -> None:
    model = big_model(tmp_path / "owner")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "big.gguf").write_bytes(b"mine")
    async with peers({"big": [model]}) as pair:
        with pytest.raises(FetchFailed, match="move it away"):
            await pair.fetch("big", folder).run()
    assert (folder / "big.gguf").read_bytes() == b"mine"


async def test_what_is_not_shared_or_not_there_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "gone.gguf"
    async with peers({"gone": [missing]}) as pair:
        for model, word in (("other", "not here"), ("gone", "cannot be read")):
            with pytest.raises(FetchFailed, match=word):
                await pair.fetch(model, tmp_path).run()


async def test_a_file_that_changes_under_way_is_not_taken_for_whole(tmp_path: Path) -> None:
    model = long_model(tmp_path / "owner")
    folder = tmp_path / "models"
    folder.mkdir()
    async with peers({"big": [model]}) as pair:
        fetch = pair.fetch("big", folder, at_bytes=1, do=lambda: os.utime(model, (5, 5)))
        with pytest.raises(FetchFailed, match="could not be fetched"):
            await fetch.run()
        assert not (folder / "big.gguf").exists()


async def test_a_second_fetch_of_the_same_model_waits_for_the_first(tmp_path: Path) -> None:
    model = big_model(tmp_path / "owner")
    async with peers({"big": [model]}) as pair:
        second: list[asyncio.Task[list[Path]]] = []

        def again() -> None:
            second.append(asyncio.create_task(pair.fetch("big", tmp_path).run()))

        await pair.fetch("big", tmp_path, at_bytes=1, do=again).run()
        with pytest.raises(FetchFailed, match="another process"):
            await second[0]


@pytest.mark.parametrize("how", ["bytes", "word", "sum", "end", "long"])
async def test_a_peer_that_lies_leaves_no_file(tmp_path: Path, how: str) -> None:
    async def lies(incoming: Incoming) -> None:
        tunnel = incoming.accept(file_words.encode(FileList([FileFacts("m.gguf", 1000)])))
        await tunnel.read()
        if how == "end":
            tunnel.end()
        elif how == "word":
            await tunnel.tell(b"\xff\xff")
        elif how == "long":
            await tunnel.write(bytes(2000))
        else:
            await tunnel.write(bytes(1000))
            await tunnel.tell(file_words.encode(file_words.Chunk(bytes(32))))
            await tunnel.tell(file_words.encode(Whole(bytes(32))))
        await tunnel.read()

    async with peers({}, serve=lies) as pair:
        with pytest.raises(FetchFailed, match="m could not be fetched"):
            await pair.fetch("m", tmp_path).run()
        assert not (tmp_path / "m.gguf").exists()


@pytest.mark.parametrize(
    "name",
    ["../m.gguf", "a/m.gguf", "/m.gguf", "..\\m.gguf", ".m.gguf", "m.txt", "", "m\n.gguf",
     "x" * 99 + ".gguf"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(WordFault):
        file_words.decode_files(file_words.encode(FileList([FileFacts(name, 5)])))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", msgspec.msgpack.encode(FileList([])),
     msgspec.msgpack.encode(FileList([FileFacts("a.gguf", 1), FileFacts("A.gguf", 1)])),
     msgspec.msgpack.encode(FileList([FileFacts("a.gguf", -1)])),
     msgspec.msgpack.encode(FileList([FileFacts(f"{n}.gguf", 1) for n in range(200)]))],
)  # fmt: skip
def test_a_list_that_cannot_be_is_refused(content: bytes) -> None:
    with pytest.raises(WordFault):
        file_words.decode_files(content)


@pytest.mark.parametrize("want", [Want(1, 0), Want(-1, 0), Want(0, 5), Want(0, -CHUNK_BYTES)])
async def test_a_wish_for_what_is_not_there_ends_the_transfer(tmp_path: Path, want: Want) -> None:
    model = big_model(tmp_path)
    async with peers({"big": [model]}) as pair:
        asked = file_words.encode(OpenFile("big"))
        tunnel = await pair.getter.lane.open(pair.owner.id, FILE_PURPOSE, asked)
        await tunnel.tell(file_words.encode(want))
        with pytest.raises(TunnelLostError):
            await tunnel.read()
