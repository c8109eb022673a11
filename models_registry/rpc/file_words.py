"""What two nodes say to each other when one gets a model's files from the other. PURE.

A tunnel for `FILE_PURPOSE` names a model; its acceptance lists the files. Then for each file: `Want`,
and back come bytes, after every chunk `Chunk`, and after the last `Whole`.
"""

from pathlib import PurePosixPath
from typing import Final

import msgspec

from models_registry.rpc.words import WordFault
from nodes.runtime.unpack import UNPACK_FAULTS

FILE_PURPOSE: Final = "file"
CHUNK_BYTES: Final = 8 << 20
"""Between two checksums: what a cut costs at most, and where a transfer goes on."""
FILES_MAX: Final = 128
"""Of one model; a list must fit one frame."""
NAME_CHARACTERS_MAX: Final = 100
MODEL_CHARACTERS_MAX: Final = 200
_DIGEST_BYTES = 32


class OpenFile(msgspec.Struct, tag="model"):
    """A model whose files are wanted."""

    model: str


class FileFacts(msgspec.Struct):
    """One file, as its owner has it."""

    name: str
    size_bytes: int


class FileList(msgspec.Struct, tag="files"):
    """All files of the model, the first part first."""

    files: list[FileFacts]


class Want(msgspec.Struct, tag="want"):
    """The bytes of a file from here on; at a chunk's beginning, or the file's end."""

    number: int
    offset: int


class Chunk(msgspec.Struct, tag="chunk"):
    """SHA-256 of the chunk that has just come."""

    sha256: bytes


class Whole(msgspec.Struct, tag="whole"):
    """SHA-256 of the whole file."""

    sha256: bytes


def encode(word: msgspec.Struct) -> bytes:
    """Return a word as bytes."""
    return msgspec.msgpack.encode(word)


def decode_open(content: bytes) -> OpenFile:
    """Return what is asked for. Raises: WordFault."""
    try:
        asked = msgspec.msgpack.decode(content, type=OpenFile)
    except UNPACK_FAULTS as error:
        raise WordFault("an opening that is none") from error
    if not 0 < len(asked.model) <= MODEL_CHARACTERS_MAX:
        raise WordFault("a model's name that is none")
    return asked


def decode_want(content: bytes, files: FileList) -> Want:
    """Return what is wanted next. Raises: WordFault."""
    try:
        want = msgspec.msgpack.decode(content, type=Want)
    except UNPACK_FAULTS as error:
        raise WordFault("a wish that is none") from error
    known = 0 <= want.number < len(files.files)
    size = files.files[want.number].size_bytes if known else -1
    if not 0 <= want.offset <= size or (want.offset % CHUNK_BYTES and want.offset != size):
        raise WordFault("a wish for what is not there")
    return want


def decode_files(content: bytes) -> FileList:
    """Return the list, checked: plain names that end in .gguf, none twice. Raises: WordFault."""
    try:
        listed = msgspec.msgpack.decode(content, type=FileList)
    except UNPACK_FAULTS as error:
        raise WordFault("a list that is none") from error
    names = [one.name for one in listed.files]
    if not names or len(names) > FILES_MAX or len({name.lower() for name in names}) != len(names):
        raise WordFault("a list of files that is none")
    if not all(_plain(one) for one in listed.files):
        raise WordFault("a file's name or size that cannot be")
    return listed


def decode_sum(content: bytes) -> Chunk | Whole:
    """Return a checksum. Raises: WordFault."""
    try:
        word: Chunk | Whole = msgspec.msgpack.decode(content, type=Chunk | Whole)
    except UNPACK_FAULTS as error:
        raise WordFault("a checksum that is none") from error
    if len(word.sha256) != _DIGEST_BYTES:
        raise WordFault("a checksum that is none")
    return word


def _plain(file: FileFacts) -> bool:
    name = file.name
    return (
        0 < file.size_bytes < 1 << 50
        and len(name) <= NAME_CHARACTERS_MAX
        and name.isprintable()
        and PurePosixPath(name).name == name
        and "\\" not in name
        and not name.startswith(".")
        and name.lower().endswith(".gguf")
    )
