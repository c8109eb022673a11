"""What a tunnel carries and what it saves, for each split's worker; read by status and by tests."""

import msgspec


class LoadCounters(msgspec.Struct):
    """One side's numbers for one worker's rpc-server. Bytes are the engine's, without our frames."""

    connections: int = 0
    """Of llama-server, over all time: some 13 a load."""
    refused: int = 0
    """Local connections that were not the engine's, or tunnels that were not granted."""
    sent_bytes: int = 0
    """Towards the rpc-server, over the lane: weights and everything else."""
    received_bytes: int = 0
    weights_sent_bytes: int = 0
    """Of the model's tensors: what had to cross the lane."""
    weights_saved_bytes: int = 0
    """And what the worker fed from its own file."""
    expected_bytes: int = 0
    """The worker's share, as far as the node has told; 0: it has not."""
    references: int = 0
    references_wanted: int = 0
    """Of these the worker had other bytes, and got them."""
    recognition: str = ""
    """Why weights are not recognised; empty: they are, or nothing has come yet."""
    rpc_version: str = ""

    @property
    def seen_bytes(self) -> int:
        """Weights that have come through so far, sent or saved."""
        return self.weights_sent_bytes + self.weights_saved_bytes
