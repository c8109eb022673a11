"""GGUF headers made by hand, byte by byte: right ones and broken ones, without the gguf library."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

U8, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def value(item: object) -> bytes:
    """Return type and bytes of a value; lists take the type of their first item."""
    match item:
        case bool():
            return struct.pack("<I?", BOOL, item)
        case int():
            return struct.pack("<II", U32, item)
        case float():
            return struct.pack("<If", F32, item)
        case str():
            return struct.pack("<I", STRING) + text(item)
        case list():
            inner = [value(one) for one in item]
            kind = inner[0][:4] if inner else struct.pack("<I", U32)
            return (
                struct.pack("<I", ARRAY)
                + kind
                + struct.pack("<Q", len(item))
                + b"".join(v[4:] for v in inner)
            )
    raise TypeError(item)


def header(
    values: Mapping[str, object],
    tensors: Sequence[tuple[str, tuple[int, ...], int, int]] = (
        ("token_embd.weight", (32, 4), 0, 0),
    ),
    *,
    version: int = 3,
    magic: bytes = b"GGUF",
    tensor_count: int | None = None,
    key_count: int | None = None,
) -> bytes:
    """Return a header; a tensor is (name, dimensions, type, offset)."""
    count = len(tensors) if tensor_count is None else tensor_count
    keys = len(values) if key_count is None else key_count
    out = magic + struct.pack("<IQQ", version, count, keys)
    for key, item in values.items():
        out += text(key) + value(item)
    for name, dimensions, kind, offset in tensors:
        out += text(name) + struct.pack("<I", len(dimensions))
        out += struct.pack(f"<{len(dimensions)}Q", *dimensions) + struct.pack("<IQ", kind, offset)
    return out


def padded(raw: bytes, data_bytes: int = 512, alignment: int = 32) -> bytes:
    """Return a header with room for its tensors behind it."""
    return raw + b"\0" * (-len(raw) % alignment) + b"\1" * data_bytes


def llama(**more: object) -> dict[str, object]:
    """Return the keys of a small llama; `more` adds keys, with `__` for a dot."""
    keys: dict[str, object] = {
        "general.architecture": "llama",
        "general.name": "Hand made",
        "general.file_type": 0,
        "llama.block_count": 2,
        "llama.context_length": 2048,
        "llama.embedding_length": 32,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "tokenizer.ggml.tokens": ["a", "b"],
    }
    return keys | {key.replace("__", "."): item for key, item in more.items()}


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path
