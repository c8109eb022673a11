"""How a client that runs longer than its credential gets the next one: from any member it is linked to.

Asked for on a stream of a proven link, so the old credential is still good and the id is not revoked.
Members need none of this: they sign their own.
"""

import time
from collections.abc import Callable

from nodes.runtime.credentials import Credential, CredentialError, Role, issue
from nodes.runtime.link import Link
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from nodes.runtime.trust import Trust

RENEW_KIND = "renew"
_MAX_BYTES = 512
_TIMEOUT_S = 5.0


async def give(
    trust: Trust, link: Link, stream: Stream, now_s: Callable[[], float] = time.time
) -> None:
    """Serve one stream of kind `RENEW_KIND` with a fresh client credential for the link's peer."""
    if trust.mesh_key is None or trust.is_revoked(link.peer_id):
        stream.abort(AbortCode.REFUSED, "no credential for this id here")
        return
    credential = issue(trust.mesh_key, link.peer_id, Role.CLIENT, now_s())
    await stream.write(credential.encode())
    stream.end()


async def fetch(trust: Trust, link: Link) -> bool:
    """Ask this member for a client's next credential; return whether it is held now."""
    try:
        stream = await link.open_stream(RENEW_KIND)
        stream.end()
        credential = Credential.decode(await stream.read_all(_MAX_BYTES, _TIMEOUT_S))
    except (StreamAbortedError, CredentialError):
        return False
    mine = (credential.node_id, credential.mesh_id) == (trust.node_id, trust.mesh_id)
    if not mine or trust.mesh_key is not None:
        return False
    trust.enter(None, credential)
    return True
