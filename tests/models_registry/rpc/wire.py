"""RPC messages made by hand, byte by byte, as ggml-rpc.cpp of version 8 lays them out."""

import struct

from models_registry.rpc import protocol


def description(name: str, kind: int = 0, shape: tuple[int, ...] = (8, 1, 1, 1)) -> bytes:
    """Return the 296 bytes that describe a tensor; what a tunnel does not read is not zero."""
    dimensions = (*shape, 1, 1, 1, 1)[:4]
    return (
        struct.pack("<QIQ", 0xABCDEF, kind, 0x1234)
        + struct.pack("<4I", *dimensions)
        + struct.pack("<4I", 4, 4, 4, 4)
        + struct.pack("<I", 0)
        + bytes(range(64))
        + struct.pack("<i", 1)
        + bytes(80)
        + struct.pack("<QQQ", 1, 2, 3)
        + name.encode().ljust(64, b"\0")
        + bytes(4)
    )


def request(command: int, payload: bytes) -> bytes:
    return struct.pack("<BQ", command, len(payload)) + payload


def hello(capabilities: bytes = bytes(24)) -> bytes:
    return request(protocol.HELLO, capabilities)


def hello_answer(major: int = 8, capabilities: bytes = bytes(24)) -> bytes:
    return answer(bytes([major, 0, 0, 0]) + capabilities)


def answer(payload: bytes) -> bytes:
    return struct.pack("<Q", len(payload)) + payload


def set_tensor(described: bytes, data: bytes, *, offset: int = 0, flag: int = 0) -> bytes:
    head = described + bytes([flag]) + struct.pack("<Q", offset)
    return request(protocol.SET_TENSOR, head + data)


def hash_offer(described: bytes, digest: int = 7, *, offset: int = 0) -> bytes:
    return request(protocol.SET_TENSOR_HASH, described + struct.pack("<QQ", offset, digest))
