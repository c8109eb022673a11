"""The lane's readers: its frames, the words of a tunnel's ends, and the engine's own protocol."""

import contextlib
import random

from models_registry.rpc import file_words, words
from models_registry.rpc.protocol import (
    WHOLE_MAX_BYTES,
    HashOffer,
    Hello,
    Pass,
    RequestReader,
    ResponseReader,
)
from models_registry.rpc.words import WordFault
from nodes.runtime.lane import frames as lane_frames
from nodes.runtime.lane.frames import FrameKind, LaneFrameError, LaneFrameReader
from nodes.runtime.lane.settings import OPEN_MAX_BYTES
from tests.fuzz.mutate import mutated
from tests.models_registry.rpc.wire import (
    answer,
    description,
    hash_offer,
    hello,
    hello_answer,
    request,
    set_tensor,
)

_FRAMES = b"".join(
    lane_frames.encode(kind, body)
    for kind, body in (
        (FrameKind.READY, b"\1"),
        (FrameKind.OPEN, bytes(16) + b"\3rpcdetails"),
        (FrameKind.ACCEPT, b"files"),
        (FrameKind.DATA, b"x" * 300),
        (FrameKind.MESSAGE, b"a word"),
        (FrameKind.SWITCH, b""),
        (FrameKind.END, b""),
        (FrameKind.ABORT, b"\0\3reason"),
    )
)
_WEIGHT = description("output.weight", 8, (64, 32))
_REQUESTS = b"".join(
    (
        hash_offer(_WEIGHT),
        set_tensor(_WEIGHT, b"d" * 400, flag=1),
        request(10, b"graph" * 50),
        set_tensor(description("inp"), b"tokens", offset=4),
    )
)
_ANSWERS = hello_answer() + answer(b"\0") + answer(b"r" * 300)
_WORDS = (
    words.encode(words.Reference(5, bytes(305), 4096, bytes(32))),
    words.encode(words.Wanted(5)),
    words.encode(words.OpenRpc(50052, 7)),
    words.encode(words.Accepted(["ab:5"])),
    file_words.encode(file_words.FileList([file_words.FileFacts("m.gguf", 5)])),
    file_words.encode(file_words.Want(0, 0)),
    file_words.encode(file_words.Chunk(bytes(32))),
)


def try_lane_frames(dice: random.Random) -> bool:
    """Anything well-formed may pass; what is held stays small."""
    reader, content = LaneFrameReader(), mutated(_FRAMES, dice)
    cut = dice.randrange(len(content) + 1)
    with contextlib.suppress(LaneFrameError):
        reader.feed(content[:cut])
        reader.feed(content[cut:])
    return len(reader._held) > lane_frames.HEADER_BYTES + OPEN_MAX_BYTES


def try_rpc(dice: random.Random) -> bool:
    """Whatever comes goes on unchanged, but for what is held until it is whole."""
    reader = RequestReader(frozenset({"output.weight"}))
    reader.feed(hello())
    reader.next()
    reader.recognising = True
    content = mutated(_REQUESTS, dice)
    out = bytearray()
    for at in range(0, len(content), 97):
        reader.feed(content[at : at + 97])
        while (event := reader.next()) is not None:
            if isinstance(event, Pass | HashOffer | Hello):
                out += event.content
    answers, back = ResponseReader(), mutated(_ANSWERS, dice)
    passed = answers.feed(back[:41]) + answers.feed(back[41:])
    lost = not content.startswith(bytes(out)) or len(back) - len(passed) > WHOLE_MAX_BYTES
    return lost or len(content) - len(out) > WHOLE_MAX_BYTES


def try_words(dice: random.Random) -> bool:
    """Nonsense is one known error."""
    content = mutated(dice.choice(_WORDS), dice)
    listed = file_words.FileList([file_words.FileFacts("m.gguf", 5)])
    for read in (
        words.decode,
        words.decode_open,
        words.decode_accepted,
        file_words.decode_open,
        file_words.decode_files,
        file_words.decode_sum,
        lambda raw: file_words.decode_want(raw, listed),
    ):
        with contextlib.suppress(WordFault):
            read(content)
    with contextlib.suppress(WordFault):
        files = file_words.decode_files(content).files
        return any("/" in file.name or file.name.startswith(".") for file in files)
    return False
