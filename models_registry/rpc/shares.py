"""How many bytes of a model's files each layer has: what a worker is to receive, for progress."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from models_registry.gguf_parse import HeaderFault, parse
from nodes.mesh.plans import SplitPlan

_BLOCK = "blk."


def share_bytes(files: Sequence[str], split: SplitPlan) -> list[int]:
    """Return what each worker of a split is to hold of the weights, in bytes. Blocks."""
    layers = sum(seat.layers for seat in split.workers) + sum(split.host_layers)
    sizes = layer_bytes(files, layers)
    ends = list(accumulate((seat.layers for seat in split.workers), initial=0))
    return [sum(sizes[start:end]) for start, end in pairwise(ends)]


def layer_bytes(files: Sequence[str], layers: int) -> list[int]:
    """Return the bytes of each of the first `layers` blocks; 0 where the files do not tell. Blocks."""
    sizes = [0] * layers
    for name in files:
        path = Path(name)
        try:
            with path.open("rb") as file:
                tensors = parse(file, path.stat().st_size).tensors
        except (OSError, HeaderFault):
            continue
        for tensor, place in tensors.items():
            number = tensor[len(_BLOCK) :].split(".", 1)[0] if tensor.startswith(_BLOCK) else ""
            if number.isdecimal() and int(number) < layers:
                sizes[int(number)] += place.size_bytes
    return sizes
