"""Joining by token over `mesh-join/1`, on real sockets: who gets in, who does not, and what each is told."""

import asyncio
import os
import time
from dataclasses import replace
from typing import Any

import pytest

from nodes.mesh.ids import NodeId
from nodes.runtime import identity, joining, mesh_key
from nodes.runtime.address import Address
from nodes.runtime.counters import Counted
from nodes.runtime.credentials import Role
from nodes.runtime.identity import Identity
from nodes.runtime.join_desk import JoinDesk
from nodes.runtime.join_messages import KnownMember
from nodes.runtime.joining import Joined, JoinError, MemberUnreachableError, join, join_first
from nodes.runtime.streams import Stream
from nodes.runtime.token import InviteToken, secret_for
from nodes.runtime.token_errors import (
    JoinBusyError,
    JoinPendingError,
    NodeRevokedError,
    OwnTokenError,
    TokenClientsOnlyError,
    TokenExpiredError,
    TokenRefusedError,
    TokenRevokedError,
    TokenUsedUpError,
)
from nodes.runtime.token_ledger import TokenLedger
from nodes.runtime.transport_settings import TransportSettings
from nodes.runtime.trust import Trust
from tests.fakes.udp_relay import UdpRelay
from tests.nodes.link_lab import QUICK, Lab, LabNode, lab, overrule, until

HOUR_S = 3600.0
SETTINGS = replace(QUICK, joins_per_s=1e6, joins_burst=1_000_000)


class Member:
    """A full member with a join desk."""

    def __init__(self, node: LabNode, ledger: TokenLedger, desk: JoinDesk) -> None:
        self.node, self.ledger, self.desk = node, ledger, desk

    def token(self, **limits: Any) -> InviteToken:
        key = self.node.trust.mesh_key
        assert key is not None
        limits.setdefault("lifetime_s", HOUR_S)
        return self.ledger.issue(key, self.node.id, [self.node.address], **limits)


async def member(made: Lab, settings: TransportSettings = SETTINGS, **options: Any) -> Member:
    node = await made.node(settings=settings)
    ledger = TokenLedger(None)
    known = KnownMember(node.id, (str(node.address),))
    desk = JoinDesk(
        node.trust, ledger, lambda: [known], node.transport.counters, settings, **options
    )
    node.transport._join_handler = desk.serve
    return Member(node, ledger, desk)


async def come(token: InviteToken, role: Role = Role.MEMBER, who: Identity | None = None) -> Joined:
    who = who or identity.ephemeral()
    return await join(who, token, role, time.time(), name="box", settings=SETTINGS)


async def test_a_new_node_joins_by_token_and_is_then_a_full_member() -> None:
    async with lab() as made:
        seeder = await member(made)
        who = identity.ephemeral()
        joined = await come(seeder.token(), who=who)
        assert joined.member_id == seeder.node.id
        assert joined.mesh_key is not None
        assert joined.mesh_key.public_key == made.key.public_key
        assert [m.addresses for m in joined.members] == [(str(seeder.node.address),)]
        fresh = await made.node(who=who, key=joined.mesh_key, credential=joined.credential)
        await fresh.transport.dial([seeder.node.address], seeder.node.id)
        await until(lambda: fresh.id in seeder.node.transport.links)
        assert seeder.node.transport.links[fresh.id].role is Role.MEMBER


async def test_a_client_gets_a_client_credential_and_no_key() -> None:
    async with lab() as made:
        seeder = await member(made)
        who = identity.ephemeral()
        joined = await come(seeder.token(), Role.CLIENT, who)
        assert joined.mesh_key is None
        assert joined.credential.role is Role.CLIENT
        client = await made.node(who=who, client=True, credential=joined.credential)
        await client.transport.dial([seeder.node.address], seeder.node.id)
        await until(lambda: seeder.node.transport.links)
        assert seeder.node.transport.links[client.id].role is Role.CLIENT


async def test_a_member_that_never_saw_the_token_redeems_it_and_can_issue() -> None:
    async with lab() as made:
        seeder, other = await member(made), await member(made)
        token = replace(seeder.token(max_uses=1), addresses=(other.node.address,))
        joined = await come(token)
        assert joined.member_id == other.node.id
        assert other.ledger.records()[0].redeemed_by == [joined.credential.node_id]
        assert (await come(other.token())).member_id == other.node.id


async def test_the_first_address_that_answers_is_used_and_others_may_be_dead() -> None:
    async with lab() as made:
        seeder = await member(made)
        relay = await UdpRelay.start(("127.0.0.1", 9))
        relay.silent = True
        silent = Address("127.0.0.1", relay.port)
        token = replace(seeder.token(), addresses=(silent, seeder.node.address))
        assert (await come(token)).member_id == seeder.node.id
        relay.close()


@pytest.mark.parametrize("limits", [{"max_uses": 1}, {"max_uses": 2}])
async def test_a_token_lets_in_as_many_nodes_as_it_says_and_the_same_node_again(
    limits: dict[str, Any],
) -> None:
    async with lab() as made:
        seeder = await member(made)
        token = seeder.token(**limits)
        came = [identity.ephemeral() for _ in range(limits["max_uses"])]
        for who in came:
            await come(token, who=who)
        with pytest.raises(TokenUsedUpError):
            await come(token)
        await come(token, who=came[0])
        assert seeder.node.transport.counters[Counted.JOINS_REFUSED] == 1


async def test_an_expired_token_is_refused_by_the_member_and_before_that_by_oneself() -> None:
    async with lab() as made:
        seeder = await member(made)
        token = seeder.token(lifetime_s=1.0)
        seeder.ledger._now_s = lambda: time.time() + HOUR_S
        with pytest.raises(TokenExpiredError):
            await come(token)
        with pytest.raises(JoinError, match="expired on"):
            await join_first(
                identity.ephemeral(), [token], Role.MEMBER, time.time() + 9, settings=SETTINGS
            )


async def test_a_revoked_token_is_refused() -> None:
    async with lab() as made:
        seeder = await member(made)
        token = seeder.token()
        seeder.ledger.revoke(token.token_id)
        with pytest.raises(TokenRevokedError):
            await come(token)


async def test_a_token_whose_limits_were_changed_is_refused() -> None:
    async with lab() as made:
        seeder = await member(made)
        token = seeder.token(max_uses=1, lifetime_s=60)
        for changed in (
            replace(token, expires_s=token.expires_s + 9999),
            replace(token, max_uses=None),
            replace(token, secret=os.urandom(16)),
        ):
            with pytest.raises(TokenRefusedError):
                await come(changed)
        assert not seeder.ledger.records()[0].redeemed_by


async def test_a_token_for_clients_lets_no_member_in() -> None:
    async with lab() as made:
        seeder = await member(made)
        token = seeder.token(clients_only=True)
        with pytest.raises(TokenClientsOnlyError):
            await come(token)
        assert (await come(token, Role.CLIENT)).mesh_key is None


async def test_a_revoked_node_cannot_come_back_by_a_token() -> None:
    async with lab() as made:
        seeder = await member(made)
        who = identity.ephemeral()
        seeder.node.trust.revoke(who.node_id)
        with pytest.raises((NodeRevokedError, MemberUnreachableError), match="revoked"):
            await come(seeder.token(), who=who)


async def test_a_node_that_awaits_approval_is_told_so_and_comes_in_once_approved() -> None:
    async with lab() as made:
        approved: list[NodeId] = []
        seeder = await member(made, approve=lambda node_id, request: node_id in approved)
        who, token = identity.ephemeral(), seeder.token(max_uses=1)
        with pytest.raises(JoinPendingError):
            await come(token, who=who)
        assert not seeder.ledger.records()[0].redeemed_by
        approved.append(who.node_id)
        await come(token, who=who)


async def test_the_secret_is_not_shown_to_a_node_of_another_mesh() -> None:
    async with lab() as made:
        seeder = await member(made)
        stranger = await made.node(key=mesh_key.new_mesh())
        asked: list[bytes] = []

        async def listen_in(stream: Stream, node_id: NodeId, address: str) -> None:
            asked.append(await stream.read_all(9999))

        stranger.transport._join_handler = listen_in
        token = replace(seeder.token(), addresses=(stranger.address,))
        with pytest.raises(MemberUnreachableError, match="another mesh"):
            await come(token)
        assert not asked


async def test_the_secret_is_not_shown_to_a_client_of_the_mesh_that_listens() -> None:
    async with lab() as made:
        seeder = await member(made)
        joined = await come(seeder.token(), Role.CLIENT, who := identity.ephemeral())
        false_member = await made.node(who=who)
        client = Trust(who, None, joined.credential)
        overrule(false_member.trust, "certificate", client.certificate)
        false_member.listener._configuration.certificate = client.certificate()
        token = replace(seeder.token(), addresses=(false_member.address,))
        with pytest.raises(MemberUnreachableError, match="client"):
            await come(token)


async def test_ones_own_token_is_told_before_anything_is_dialled() -> None:
    async with lab() as made:
        seeder = await member(made)
        with pytest.raises(JoinError) as caught:
            await join_first(seeder.node.trust.identity, [seeder.token()], Role.MEMBER, time.time())
        assert isinstance(caught.value.causes[0], OwnTokenError)


async def test_of_several_tokens_the_first_that_works_wins_and_all_failures_are_told() -> None:
    async with lab() as made:
        seeder, other = await member(made), await member(made)
        bad = other.token()
        other.ledger.revoke(bad.token_id)
        joined = await join_first(
            identity.ephemeral(), [bad, seeder.token()], Role.MEMBER, time.time(), settings=SETTINGS
        )
        assert joined.member_id == seeder.node.id
        gone = replace(bad, addresses=(Address("127.0.0.1", 9),))
        with pytest.raises(JoinError) as caught:
            await join_first(
                identity.ephemeral(), [bad, gone], Role.MEMBER, time.time(), settings=SETTINGS
            )
        assert [type(c) for c in caught.value.causes] == [TokenRevokedError, MemberUnreachableError]
        assert "nothing listens" in str(caught.value)


async def test_after_a_rotation_old_tokens_fail_and_new_ones_work() -> None:
    async with lab() as made:
        seeder = await member(made)
        old = seeder.token()
        seeder.node.trust.rotate()
        # The certificate shown is renewed from the second handshake on.
        with pytest.raises((MemberUnreachableError, TokenRefusedError)):
            await come(old)
        fresh = seeder.token()
        assert fresh.epoch == 2
        joined = await come(InviteToken.decode(fresh.encode()))
        assert joined.credential.epoch == 2
        assert joined.mesh_key is not None
        assert joined.mesh_key.epoch == 2


async def test_joins_are_limited_for_each_address() -> None:
    async with lab() as made:
        settings = replace(QUICK, joins_per_s=0.0, joins_burst=2)
        seeder = await member(made, settings)
        token = seeder.token()
        await come(token)
        await come(token)
        with pytest.raises(JoinBusyError):
            await come(token)


async def test_a_join_stream_that_sends_nothing_ends_in_time() -> None:
    async with lab() as made:
        settings = replace(SETTINGS, join_timeout_s=0.3)
        seeder = await member(made, settings)
        connection = await joining._connected(
            identity.ephemeral(), seeder.token(), time.time(), SETTINGS
        )
        connection.open_stream("join")
        await until(lambda: connection.end_reason is not None)
        assert seeder.desk._exchanges == 0


async def test_garbage_instead_of_a_request_lets_nobody_in() -> None:
    async with lab() as made:
        seeder = await member(made)
        for content in (b"", b"\xc1", os.urandom(500), b"\x80" * 9000):
            connection = await joining._connected(
                identity.ephemeral(), seeder.token(), time.time(), SETTINGS
            )
            stream = connection.open_stream("join")
            await stream.write(content)
            stream.end()
            with pytest.raises(ConnectionError):
                await stream.read_all(9999, 3.0)
        assert not any(r.redeemed_by for r in seeder.ledger.records())
        assert seeder.node.transport.counters[Counted.JOINS_ACCEPTED] == 0


async def test_a_joining_connection_reaches_nothing_but_the_desk() -> None:
    async with lab() as made:
        seeder = await member(made)
        for kind in ("echo", "hello", "gossip"):
            connection = await joining._connected(
                identity.ephemeral(), seeder.token(), time.time(), SETTINGS
            )
            stream = connection.open_stream(kind)
            connection.send_datagram(b"hello")
            with pytest.raises(ConnectionError):
                await stream.read_all(9999, 3.0)
        await asyncio.sleep(0.05)
        assert not seeder.node.transport.links
        assert not seeder.node.seen.datagrams
        assert not seeder.node.seen.ups


def test_a_secret_depends_on_everything_that_limits_the_token() -> None:
    key = mesh_key.new_mesh()
    token = TokenLedger(None).issue(key, identity.ephemeral().node_id, [], lifetime_s=60)
    changed = [
        replace(token, token_id="00" * 6),
        replace(token, issuer=identity.ephemeral().node_id),
        replace(token, expires_s=token.expires_s + 1),
        replace(token, max_uses=3),
        replace(token, clients_only=True),
    ]
    assert len({secret_for(key, t) for t in [token, *changed]}) == 6
    assert secret_for(mesh_key.new_mesh(), token) != secret_for(key, token)
