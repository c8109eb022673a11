"""Every bound and permission of the API port, in one frozen value with a name for each.

Decides nothing: `meshsite.compose` fills it from the flags, `asgi` and `front` obey it.
"""

from collections.abc import Callable
from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """What the API allows. The defaults are those of a node on loopback without a key."""

    # --- who may ask ---------------------------------------------------------------------------
    allowed_hosts: frozenset[str] = frozenset()
    """Host names served besides loopback, lower case, without port; ``*`` allows every one."""
    cors_origins: frozenset[str] = frozenset()
    """Origins whose pages may read answers besides loopback and same-origin ones; ``*``: all."""
    check_key: Callable[[str], bool] | None = None
    """Returns whether a presented API key is good, in constant time; None: no key is needed."""

    # --- sizes -----------------------------------------------------------------------------------
    body_limit_bytes: int = 32 * MIB
    """Largest request body; beyond it 413."""
    bodies_total_limit_bytes: int = 256 * MIB
    """All request bodies held in memory at once; beyond it 503 with Retry-After."""
    head_limit_bytes: int = 64 * 1024
    """Largest request line and headers together; beyond it 431."""
    write_high_water_bytes: int = 64 * 1024
    """Unsent bytes of one answer at which `send` starts to wait for the client."""
    write_low_water_bytes: int = 16 * 1024
    """Unsent bytes at which a waiting `send` goes on."""
    read_high_water_bytes: int = 256 * 1024
    """Received and not yet consumed body bytes at which the front stops reading a client."""
    pipelined_limit: int = 16
    """Requests of one connection waiting for their turn at which the front stops reading it."""
    connections_limit: int = 2048
    """Open client connections; beyond it a 503 with Retry-After and a close."""
    upstream_connections_limit: int = 2048
    """Open connections to one engine; beyond it a 503 with Retry-After."""
    upstream_idle_limit: int = 32
    """Idle connections kept to one engine."""

    # --- deadlines -------------------------------------------------------------------------------
    head_deadline_s: float = 10.0
    """From the first byte of a request to the end of its headers; beyond it 408 and a close."""
    body_idle_deadline_s: float = 30.0
    """Longest pause between two pieces of a request body; beyond it 408 and a close."""
    body_deadline_s: float = 600.0
    """From the end of the headers to the end of the body, however steadily it drips."""
    keep_alive_deadline_s: float = 75.0
    """An idle connection between two requests is closed after this."""
    write_stall_deadline_s: float = 120.0
    """A client that reads nothing for this long while bytes wait is cut off: its slot is freed."""
    total_deadline_s: float = 6 * 3600.0
    """From the end of the headers to the end of the answer: what ends a forgotten request."""
    linger_deadline_s: float = 2.0
    """After an early answer: how long unread request bytes are thrown away before the close."""
    half_close_probe_s: float = 0.1
    """After a client's end of input: how long until it is asked whether it still listens."""
    connect_deadline_s: float = 5.0
    """To open a connection to an engine of this machine."""
    first_byte_deadline_s: float = 1800.0
    """From the sent request to the engine's first byte. Long prompts on a CPU take many minutes."""
    upstream_idle_deadline_s: float = 300.0
    """Longest silence of an engine in the middle of an answer."""
    upstream_keep_alive_s: float = 3.5
    """An idle engine connection is closed after this: llama-server's own limit is 5 s."""
    sweep_interval_s: float = 0.5
    """How often deadlines are looked at: one timer for all connections, none per chunk."""
    retry_after_s: int = 2
    """Retry-After of a 503 when nothing better is known."""
