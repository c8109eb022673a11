"""Small model files with weights of chosen sizes, and their tensors as the protocol describes them."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tests.models_registry.gguf_bytes import header, llama
from tests.models_registry.rpc.wire import description, set_tensor

ALIGNMENT = 32


@dataclass(frozen=True)
class ATensor:
    """One F32 tensor of a file."""

    name: str
    shape: tuple[int, ...]
    data: bytes

    @property
    def described(self) -> bytes:
        return description(self.name, 0, self.shape)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.data).digest()

    def message(self, *, flag: int = 0) -> bytes:
        return set_tensor(self.described, self.data, flag=flag)


def tensors(*sizes: int, seed: str = "t", shapes: str = "") -> list[ATensor]:
    """Return tensors of these sizes in bytes (multiples of 4), each with bytes of its own."""
    made = []
    for number, size in enumerate(sizes):
        block = hashlib.sha256(f"{seed}{number}".encode()).digest()
        data = (block * (size // 32 + 1))[:size]
        made.append(ATensor(f"blk.{number}.ffn_up.weight{shapes}", (size // 4,), data))
    return made


def write_model(path: Path, made: list[ATensor]) -> Path:
    """Write a GGUF file that holds these tensors."""
    places, offset = [], 0
    for tensor in made:
        places.append((tensor.name, tensor.shape, 0, offset))
        offset += len(tensor.data) + -len(tensor.data) % ALIGNMENT
    raw = header(llama(), places)
    raw += bytes(-len(raw) % ALIGNMENT)
    for tensor in made:
        raw += tensor.data + bytes(-len(tensor.data) % ALIGNMENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path
