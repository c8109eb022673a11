"""Why a node serves a model: decides who may take it away again."""

from enum import StrEnum


class Cause(StrEnum):
    """Why a node serves a model."""

    OWN = "own"
    """Its operator asked it to: never changed by the mesh."""
    NEEDED = "needed"
    """Nobody served it and the mesh wanted it: one node is enough, a second one stands by again."""
    SPARE = "spare"
    """Another copy of the least served model, because the node had nothing to do when it came."""
    DEMAND = "demand"
    """Another copy while the model was hot: given back when it is cold."""
