"""How a node learns where a peer listens for the lane: by asking over their proven link.

Decides that the host is the one where the link's own packets go, so that a node announces no address:
only the port is told. One stream of kind `lane-address`, one small answer.
"""

from collections.abc import Callable

from nodes.runtime.credentials import Role
from nodes.runtime.lane.endpoints import LaneEndpoint
from nodes.runtime.link import Link
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError

ADDRESS_KIND = "lane-address"
TIMEOUT_S = 5.0
_PORT_BYTES = 2


async def tell(listen_port: Callable[[], int], link: Link, stream: Stream) -> None:
    """Serve one stream of kind `ADDRESS_KIND`: members hear the lane's TCP port, 0 where it has none."""
    if link.role is not Role.MEMBER:
        stream.abort(AbortCode.REFUSED, "the lane is for full members")
        return
    await stream.write(listen_port().to_bytes(_PORT_BYTES))
    stream.end()


async def ask(link: Link) -> LaneEndpoint | None:
    """Return where the peer listens for the lane; None: nowhere, or it did not say."""
    place = link.primary.connection.remote_address if link.primary is not None else None
    if place is None:
        return None
    try:
        stream = await link.open_stream(ADDRESS_KIND)
        stream.end()
        answer = await stream.read_all(_PORT_BYTES, TIMEOUT_S)
    except StreamAbortedError:
        return None
    port = int.from_bytes(answer)
    host = place[0][7:] if place[0].startswith("::ffff:") else place[0]
    return LaneEndpoint(host, port) if len(answer) == _PORT_BYTES and port else None
