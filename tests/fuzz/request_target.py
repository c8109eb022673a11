"""Heads of requests and answers through a peer link, and tables for clients: hostile bytes against each."""

import contextlib
import random

from nodes.mesh.announcement import Announcement
from nodes.runtime import client_table, identity, mesh_key
from nodes.runtime.client_table import TableError
from nodes.runtime.trust import Trust
from proxy import tunnel
from proxy.tunnel import AnswerHead, RequestHead, TunnelError
from tests.fuzz.mutate import mutated

_FORBIDDEN = frozenset(b"\r\n\0")


class RequestTarget:
    """What a member, or a client, could say to a node's engine or API."""

    def __init__(self) -> None:
        headers = ((b"content-type", b"application/json"), (b"x-request-id", b"abc"))
        request = RequestHead(
            model="tiny", method=b"POST", target=b"/v1/completions?a=b", headers=headers,
            body_bytes=12, left_s=5.0,
        )  # fmt: skip
        self._request = tunnel.encode(request)[tunnel.LENGTH_BYTES :]
        answer = AnswerHead(status=200, headers=headers)
        self._answer = tunnel.encode(answer)[tunnel.LENGTH_BYTES :]
        self._trust = Trust(identity.ephemeral(), mesh_key.new_mesh())
        self._table = client_table.encode(self._trust, Announcement(name="box"), [])
        self._told = client_table.decode(self._table, self._trust.node_id)

    def heads(self, dice: random.Random) -> bool:
        """A head may pass when it is one request, or one answer, whatever else it says."""
        with contextlib.suppress(TunnelError):
            head = tunnel.decode_request(mutated(self._request, dice))
            tunnel.check_request(head)
            lines = [head.method, head.target, *(part for pair in head.headers for part in pair)]
            if not head.target.startswith(b"/") or any(_FORBIDDEN & set(line) for line in lines):
                return True
        with contextlib.suppress(TunnelError):
            answer = tunnel.decode_answer(mutated(self._answer, dice))
            parts = [part for pair in answer.headers for part in pair]
            return not answer.refusal and any(_FORBIDDEN & set(part) for part in parts)
        return False

    def tables(self, dice: random.Random) -> bool:
        """A table that says anything else than what was signed must not pass."""
        try:
            told = client_table.decode(mutated(self._table, dice), self._trust.node_id)
        except TableError:
            return False
        return told != self._told
