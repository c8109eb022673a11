"""Who goes first, decided by nobody: a hash that every node computes alike.

Source: highest random weight hashing (Thaler and Ravishankar, 1998). Each model orders the nodes in its
own way, so two nodes that decide at the same moment do not both begin with the same model, and the
loss of one node changes nothing for the others.
"""

import functools
import hashlib

from nodes.mesh.ids import ModelName, NodeId


@functools.lru_cache(maxsize=65_536)
def weight(node_id: NodeId, model: ModelName) -> int:
    """Return this node's weight for a model: the highest goes first."""
    key = f"{node_id}/{model}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())
