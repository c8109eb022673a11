"""The member's side of joining: takes a token from an unknown id, gives a credential. Any full member can.

Decides by token, ledger, revocations and the operator's approval; who it speaks with was proven by the
handshake. Bounded: a few exchanges at a time, and so many for each source address.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from nodes.mesh.ids import NodeId
from nodes.runtime import join_messages
from nodes.runtime.address_limits import AddressLimits
from nodes.runtime.counters import Counted, Counters
from nodes.runtime.credentials import Role, issue
from nodes.runtime.join_messages import JOIN_KIND, JoinAnswer, JoinRequest, KnownMember
from nodes.runtime.streams import AbortCode, Stream
from nodes.runtime.token import InviteToken
from nodes.runtime.token_errors import (
    JoinBusyError,
    JoinPendingError,
    NodeRevokedError,
    TokenError,
    TokenRefusedError,
)
from nodes.runtime.token_ledger import TokenLedger, TokenLedgerError, TokenRecord
from nodes.runtime.transport_settings import TransportSettings
from nodes.runtime.trust import Trust

_log = logging.getLogger(__name__)
EXCHANGES_MAX = 8
"""Exchanges at the same time; further ones are told to come back."""


class JoinDesk:
    """Serves `mesh-join/1` for one full member: `Transport(join_handler=desk.serve)`."""

    def __init__(
        self,
        trust: Trust,
        ledger: TokenLedger,
        members: Callable[[], Sequence[KnownMember]],
        counters: Counters | None = None,
        settings: TransportSettings | None = None,
        *,
        approve: Callable[[NodeId, JoinRequest], bool] = lambda node_id, request: True,
        on_redeemed: Callable[[TokenRecord, NodeId], None] = lambda record, node_id: None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`members` tells whom a new node can dial; `approve` False lets it wait and ask again."""
        settings = settings or TransportSettings()
        self.counters = counters or Counters()
        self._trust = trust
        self._ledger = ledger
        self._members = members
        self._approve = approve
        self._on_redeemed = on_redeemed
        self._now_s = now_s
        self._progress_s = settings.join_timeout_s
        self._limits = AddressLimits(
            settings.joins_per_s, settings.joins_burst, settings.limited_addresses_max
        )
        self._exchanges = 0

    async def serve(self, stream: Stream, node_id: NodeId, address: str) -> None:
        """Answer one exchange; errors of the token go to the other side as their code."""
        if stream.kind != JOIN_KIND:
            stream.abort(AbortCode.REFUSED, "only join streams here")
            return
        busy = self._exchanges >= EXCHANGES_MAX
        self._exchanges += 1
        try:
            now_s = asyncio.get_running_loop().time()
            if busy or not self._limits.allow(address, now_s):
                raise JoinBusyError
            content = await stream.read_all(join_messages.REQUEST_MAX_BYTES, self._progress_s)
            answer = self._answer(join_messages.decode_request(content), node_id)
            self.counters.add(Counted.JOINS_ACCEPTED)
        except TokenError as error:
            self.counters.add(Counted.JOINS_REFUSED)
            _log.warning("%s at %s was not let in: %s", node_id[:12], address, error.code)
            answer = JoinAnswer(code=error.code)
        except join_messages.MessageError as error:
            self.counters.add(Counted.JOINS_REFUSED)
            stream.abort(AbortCode.REFUSED, str(error))
            return
        finally:
            self._exchanges -= 1
        await stream.write(join_messages.encode(answer))
        stream.end()

    def _answer(self, request: JoinRequest, node_id: NodeId) -> JoinAnswer:
        """Return the credential and all that goes with it.

        Raises:
            TokenError: why this node is not let in.
        """
        key = self._trust.mesh_key
        if key is None:
            raise TokenRefusedError("a client cannot let others in: use the token of a member.")
        if self._trust.is_revoked(node_id):
            raise NodeRevokedError
        token = InviteToken.decode(request.token)
        # First the token alone: a stranger must not be able to ask for an operator's attention.
        self._ledger.check(key, token, node_id, client=request.client)
        if not self._approve(node_id, request):
            raise JoinPendingError
        try:
            record = self._ledger.redeem(key, token, node_id, client=request.client)
        except TokenLedgerError as error:
            # Not counted on disk: a restart could let it be used again, so nobody is let in.
            _log.error("a join failed: %s", error)
            raise JoinBusyError from error
        self._on_redeemed(record, node_id)
        role = Role.CLIENT if request.client else Role.MEMBER
        revocations, _ = self._trust.records()
        return JoinAnswer(
            credential=issue(key, node_id, role, self._now_s()).encode(),
            epoch=key.epoch,
            seed=b"" if request.client else key.seed,
            members=tuple(self._members())[: join_messages.MEMBERS_MAX],
            revocations=revocations,
        )
