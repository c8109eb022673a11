"""What `forward` asks of a way to an engine, on this machine or behind a peer link.

The contract between the walk over the candidates and the clients that carry bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from nodes.mesh.routing import Upstream

Header = tuple[bytes, bytes]


class UpstreamTrouble(Enum):
    """What went wrong on the way to or from an engine."""

    UNREACHABLE = "could not be reached"
    DIED = "closed the connection before it had answered"
    SLOW = "did not answer in time"
    BUSY = "has too many open connections"
    BROKEN = "sent something that is not HTTP"
    NOT_SERVED = "is not there any more"
    LOADING = "is still loading there"
    DRAINING = "is being stopped there"
    TOO_LARGE = "takes no request of this size"
    LINK_LOST = "is behind a link that is broken"
    """The peer link itself, not the engine: evidence against the node."""
    SILENT = "gave no sign of life any more"
    """Given up by this node (`first_byte`): evidence against the node as well."""
    GONE = "left the mesh, or stopped serving it, before it had answered"
    """As this node's table says."""
    NO_ROOM = "has too little context for the prompt"
    """It said so in its answer, and another host has more."""

    @property
    def against_node(self) -> bool:
        """Whether the node itself, not only an engine of it, may be dead."""
        return self in (UpstreamTrouble.LINK_LOST, UpstreamTrouble.SILENT)


class UpstreamError(Exception):
    """An engine failed a request; `forward` decides whether another may try."""

    def __init__(
        self,
        trouble: UpstreamTrouble,
        text: str = "",
        progress: float | None = None,
        phase: str = "",
    ) -> None:
        super().__init__(text or trouble.value)
        self.trouble = trouble
        self.text = text
        """The serving node's own words, for people; empty: none."""
        self.progress = progress
        """0 to 1, of a model that loads there; None: not said."""
        self.phase = phase


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """A request as it goes to an engine: the client's own bytes, hop-by-hop headers left out."""

    method: bytes
    target: bytes
    """Path and query as the client wrote them."""
    headers: Sequence[Header]
    body: bytes
    first_byte_s: float | None = None
    """How long the first byte may take; None: as long as the configuration says, which is also the bound."""


class Answer(Protocol):
    """An engine's answer whose headers have arrived."""

    status: int
    headers: list[Header]
    """Names in lower case."""

    async def read(self) -> bytes:
        """Return the next bytes of the body, empty at its clean end.

        Raises UpstreamError when it ends any other way.
        """
        ...

    async def pump(self, sink: Callable[[bytes], bool]) -> None:
        """Hand every piece to `sink` as it comes until that returns False or nothing more comes.

        What ended it is told by the next `read`. `sink` must not raise.
        """
        ...

    def close(self) -> None:
        """Let go. Of an unfinished answer the connection is closed at once, so the slot is freed."""
        ...

    def fail(self, error: Exception) -> None:
        """Make a waiting or coming `read` raise `error`, and close the connection."""
        ...


class UpstreamClient(Protocol):
    """Opens requests to one kind of upstream."""

    async def open(self, upstream: Upstream, request: OutboundRequest) -> Answer:
        """Return the answer once its headers are there. Raises UpstreamError."""
        ...
