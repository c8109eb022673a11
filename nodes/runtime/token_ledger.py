"""The invitations of this node: which it issued, who came by them, which an operator took back.

Decides whether a token still admits somebody. Holds no secret and no hash of one: the mesh key
proves a token (`token.is_genuine`), so any full member can redeem a token that another one issued;
what such a member counts, it tells the others as `Redemption`s and revocations, which only ever
grow and can be merged in any order. Kept in the home (file `tokens`, 0600), bounded.
"""

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import msgspec

from nodes.mesh.ids import NodeId
from nodes.runtime import private_file
from nodes.runtime.address import Address
from nodes.runtime.mesh_key import MeshKey, fingerprint
from nodes.runtime.token import MAX_USES, TOKEN_ID_BYTES, InviteToken, is_genuine, secret_for
from nodes.runtime.token_errors import (
    TokenClientsOnlyError,
    TokenExpiredError,
    TokenRefusedError,
    TokenRevokedError,
    TokenUsedUpError,
)
from nodes.runtime.unpack import UNPACK_FAULTS

LEDGER_FILE = "tokens"
START_UP_LIFETIME_S = 7 * 86_400
START_UP_REMAINING_S = 86_400
"""A start-up token with less left than this is replaced at the next start."""
MAX_RECORDS = 64
MAX_NODES_PER_RECORD = MAX_USES
"""Nodes remembered by id for one token; later ones of an unlimited token are let in unlisted.
With `MAX_RECORDS` this keeps the file under `private_file.MAX_PRIVATE_BYTES`."""
CLOCK_SKEW_S = 300
"""A token may be this much past its end by our clock: the issuer's clock set the time."""
_WHAT = "the list of invite tokens"


class TokenLedgerError(Exception):
    """The list cannot be used. The text is one sentence for a person, with what to do."""


class TokenRecord(msgspec.Struct):
    """One invitation as this node knows it."""

    token_id: str
    issuer: NodeId
    mesh_id: str
    epoch: int
    expires_s: int
    max_uses: int | None = None
    clients_only: bool = False
    revoked: bool = False
    start_up: bool = False
    label: str = ""
    created_s: int = 0
    redeemed_by: list[NodeId] = msgspec.field(default_factory=list)

    @property
    def uses_left(self) -> int | None:
        """How many more nodes may come; None: any number."""
        return None if self.max_uses is None else max(0, self.max_uses - len(self.redeemed_by))


class _Stored(msgspec.Struct):
    records: list[TokenRecord]


class TokenLedger:
    """The list in memory, written through to `home` at each change; `home` None keeps it in memory."""

    def __init__(self, home: Path | None, now_s: Callable[[], float] = time.time) -> None:
        """Read the list kept in `home`.

        Raises:
            TokenLedgerError: the file is broken, others may read it, or it cannot be read.
        """
        self._path = home / LEDGER_FILE if home is not None else None
        self._now_s = now_s
        self._records: dict[str, TokenRecord] = {r.token_id: r for r in self._read()}

    def records(self) -> tuple[TokenRecord, ...]:
        """Return what is known, newest first, without tokens that ended over a day ago."""
        self._forget_old()
        return tuple(sorted(self._records.values(), key=lambda r: (-r.created_s, r.token_id)))

    def start_up_token(
        self, key: MeshKey, issuer: NodeId, addresses: Iterable[Address]
    ) -> InviteToken:
        """Return this node's multi-use token, the same one at each start while it is good for a day more.

        Raises:
            TokenLedgerError: a new one cannot be kept.
        """
        now_s = self._now_s()
        for record in self._records.values():
            current = record.start_up and not record.revoked and record.issuer == issuer
            same_mesh = (record.mesh_id, record.epoch) == (key.mesh_id, key.epoch)
            if current and same_mesh and record.expires_s - now_s > START_UP_REMAINING_S:
                return _token(record, key, addresses)
        return self.issue(
            key, issuer, addresses, lifetime_s=START_UP_LIFETIME_S, label="start-up", start_up=True
        )

    def issue(
        self,
        key: MeshKey,
        issuer: NodeId,
        addresses: Iterable[Address],
        *,
        lifetime_s: float,
        max_uses: int | None = None,
        clients_only: bool = False,
        label: str = "",
        start_up: bool = False,
    ) -> InviteToken:
        """Return a new token. `max_uses` None: any number of nodes until it expires.

        Raises:
            TokenLedgerError: too many tokens are open, or the list cannot be written.
            ValueError: `max_uses` or `lifetime_s` is out of range.
        """
        if max_uses is not None and not 1 <= max_uses <= MAX_USES:
            raise ValueError(f"a token can be used 1 to {MAX_USES} times, not {max_uses}")
        if not 0 < lifetime_s <= 10 * 365 * 86_400:
            raise ValueError("a token lasts more than 0 s and at most 10 years")
        self._forget_old()
        if len(self._records) >= MAX_RECORDS:
            raise TokenLedgerError(
                f"{MAX_RECORDS} invite tokens are open: revoke some (`mesh-llm token list`) first."
            )
        now_s = self._now_s()
        record = TokenRecord(
            token_id=secrets.token_hex(TOKEN_ID_BYTES), issuer=issuer, mesh_id=key.mesh_id,
            epoch=key.epoch, expires_s=int(now_s + lifetime_s), max_uses=max_uses,
            clients_only=clients_only, start_up=start_up, label=label[:80], created_s=int(now_s),
        )  # fmt: skip
        self._records[record.token_id] = record
        self._write()
        return _token(record, key, addresses)

    def token_text(self, token_id: str, key: MeshKey, addresses: Iterable[Address]) -> str | None:
        """Return an open token again as text; None when it is unknown or of another epoch."""
        record = self._records.get(token_id)
        if record is None or (record.mesh_id, record.epoch) != (key.mesh_id, key.epoch):
            return None
        return _token(record, key, addresses).encode()

    def check(self, key: MeshKey, token: InviteToken, node_id: NodeId, *, client: bool) -> None:
        """Return when `redeem` would let `node_id` in.

        Raises:
            TokenError: the subclass says why not.
        """
        if not is_genuine(key, token):
            raise TokenRefusedError
        now_s = self._now_s()
        if now_s >= token.expires_s + CLOCK_SKEW_S:
            raise TokenExpiredError(token.expires_s, now_s)
        if token.clients_only and not client:
            raise TokenClientsOnlyError
        record = self._records.get(token.token_id)
        if record is None:
            return
        if record.revoked:
            raise TokenRevokedError
        if node_id not in record.redeemed_by and record.uses_left == 0:
            raise TokenUsedUpError

    def redeem(
        self, key: MeshKey, token: InviteToken, node_id: NodeId, *, client: bool
    ) -> TokenRecord:
        """Return the record after letting `node_id` in. The same node may come again at no further use.

        Raises:
            TokenError: the subclass says why not; nothing was counted.
            TokenLedgerError: the use cannot be kept; nobody is to be let in.
        """
        self.check(key, token, node_id, client=client)
        record = self._records.get(token.token_id) or self._foreign(token)
        if node_id not in record.redeemed_by and len(record.redeemed_by) < MAX_NODES_PER_RECORD:
            record.redeemed_by.append(node_id)
            self._write()
        return record

    def revoke(self, token_id: str) -> TokenRecord | None:
        """Take a token back, by its id or an unambiguous beginning of it; None when there is none such.

        Raises:
            TokenLedgerError: the list cannot be written.
        """
        matches = [
            r for r in self._records.values() if token_id and r.token_id.startswith(token_id)
        ]
        if len(matches) != 1:
            return None
        matches[0].revoked = True
        self._write()
        return matches[0]

    def merge(self, other: TokenRecord) -> bool:
        """Take over what another full member counted; return whether that changed anything.

        Uses and revocation only grow, so the order of merging does not matter. Ended tokens and
        those over the bound are left out.
        """
        if other.expires_s + CLOCK_SKEW_S <= self._now_s():
            return False
        mine = self._records.get(other.token_id)
        if mine is None:
            if len(self._records) >= MAX_RECORDS:
                return False
            self._records[other.token_id] = msgspec.structs.replace(other, start_up=False)
            self._write()
            return True
        fresh = [n for n in other.redeemed_by if n not in mine.redeemed_by]
        if not fresh and (mine.revoked or not other.revoked):
            return False
        mine.redeemed_by.extend(fresh[: MAX_NODES_PER_RECORD - len(mine.redeemed_by)])
        mine.revoked = mine.revoked or other.revoked
        self._write()
        return True

    def _foreign(self, token: InviteToken) -> TokenRecord:
        """Open a record for a genuine token that another member issued."""
        self._forget_old()
        if len(self._records) >= MAX_RECORDS:
            raise TokenRefusedError(
                "the member keeps too many open invite tokens: try another one."
            )
        record = TokenRecord(
            token_id=token.token_id, issuer=token.issuer, mesh_id=token.mesh_id, epoch=token.epoch,
            expires_s=token.expires_s, max_uses=token.max_uses, clients_only=token.clients_only,
            created_s=int(self._now_s()),
        )  # fmt: skip
        self._records[token.token_id] = record
        return record

    def _forget_old(self) -> None:
        now_s = self._now_s()
        self._records = {
            token_id: record
            for token_id, record in self._records.items()
            if record.expires_s + max(CLOCK_SKEW_S, 86_400) > now_s
        }

    def _read(self) -> list[TokenRecord]:
        if self._path is None:
            return []
        try:
            content = private_file.read(self._path, _WHAT)
            return msgspec.json.decode(content, type=_Stored).records if content else []
        except private_file.PrivateFileError as error:
            raise TokenLedgerError(str(error)) from error
        except UNPACK_FAULTS as error:
            raise TokenLedgerError(
                f"{self._path} does not hold a list of invite tokens: move it away (tokens that "
                "were issued stay good, but one-time tokens could be used again)."
            ) from error

    def _write(self) -> None:
        if self._path is None:
            return
        content = msgspec.json.encode(_Stored(records=list(self._records.values())))
        try:
            private_file.write(self._path, content, _WHAT)
        except private_file.PrivateFileError as error:
            raise TokenLedgerError(str(error)) from error


def _token(record: TokenRecord, key: MeshKey, addresses: Iterable[Address]) -> InviteToken:
    token = InviteToken(
        mesh_id=key.mesh_id, epoch=key.epoch, key_fingerprint=fingerprint(key.public_key),
        issuer=record.issuer, token_id=record.token_id, expires_s=record.expires_s,
        max_uses=record.max_uses, secret=b"", addresses=tuple(addresses),
        clients_only=record.clients_only,
    )  # fmt: skip
    return replace(token, secret=secret_for(key, token))
