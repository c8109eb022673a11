"""What a load is asked to do, and what it says of it: both go through JSON."""

from typing import Any

import msgspec


class LoadSpec(msgspec.Struct, frozen=True):
    """One load on one target."""

    kind: str
    """`sequence`, `streams`, `disconnect` or `never_reads`."""
    port: int
    host: str = "127.0.0.1"
    path: str = "/v1/chat/completions"
    body: dict[str, Any] = {}
    key: str = ""
    count: int = 1
    """Requests in sequence, concurrent streams, or disconnects."""
    warm_up: int = 0
    """Requests of a sequence before the first that counts."""
    arrival_s: float = 0.0
    """Concurrent streams start evenly over this time."""
    token_mark: str = ""
    """Occurs once per token in a streamed body; empty: the answer is not streamed."""
    timeout_s: float = 60.0
    slots_port: int = 0
    """Of a disconnect: the engine's own port, whose /slots tells when the slot is free."""


class LoadResult(msgspec.Struct):
    """What a load saw. Times in seconds; lists are one entry per sample."""

    ttfb_s: list[float] = []
    gaps_s: list[float] = []
    freed_s: list[float] = []
    tokens: int = 0
    finished: int = 0
    """Answers that came whole (`[DONE]` of a stream)."""
    failed: int = 0
    wall_s: float = 0.0
    own_cpu_s: float = 0.0
    """CPU of the load generator itself."""
    error: str = ""
