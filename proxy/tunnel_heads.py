"""Reading one head off a peer's stream, and keeping what came behind it."""

from nodes.runtime.streams import Stream
from proxy import tunnel


async def read_head(stream: Stream) -> tuple[bytes, bytes]:
    """Return (the head's bytes, the first bytes of the body behind it, perhaps none).

    Waits as long as it takes: the caller has a deadline.

    Raises:
        TunnelError: what came is no head, or the stream ended before it was whole.
        StreamAbortedError: the stream ended early.
    """
    held = bytearray()
    length = 0
    while not length or len(held) < tunnel.LENGTH_BYTES + length:
        chunk = await stream.read()
        if not chunk:
            raise tunnel.TunnelError("an end in the middle of a head")
        held += chunk
        if not length and len(held) >= tunnel.LENGTH_BYTES:
            length = tunnel.length_of(bytes(held[: tunnel.LENGTH_BYTES]))
    end = tunnel.LENGTH_BYTES + length
    return bytes(held[tunnel.LENGTH_BYTES : end]), bytes(held[end:])
