"""A passive client between several members: whose table it takes, whom it asks next, and when it must go."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from meshsite import client_side
from meshsite.client_side import ClientSide
from meshsite.mesh_entry import Standing
from meshsite.options import Options
from nodes.mesh.announcement import Announcement, ServedModelLine
from nodes.mesh.client_events import TableReceived
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import NodeId
from nodes.runtime import client_table, credentials, identity, key_handover, renewal
from nodes.runtime.credentials import Role
from nodes.runtime.join_desk import JoinDesk
from nodes.runtime.join_messages import KnownMember
from nodes.runtime.join_sources import JoinToken
from nodes.runtime.link import Link
from nodes.runtime.links import PeerLinks
from nodes.runtime.streams import Stream, StreamAbortedError
from nodes.runtime.token_ledger import TokenLedger
from tests.nodes.link_lab import Lab, LabNode, lab, until


@dataclass
class Member:
    """A full member without a core: it says of the mesh what the test has it say."""

    node: LabNode
    links: PeerLinks
    told: list[Any]
    """What its core would have been told."""
    ledger: TokenLedger
    others: list["Member"] = field(default_factory=list)
    serving: tuple[str, ...] = ()
    gave: int = 0

    @property
    def id(self) -> NodeId:
        return self.node.id

    def announcement(self) -> Announcement:
        lines = tuple(ServedModelLine(name, "ready", 4, 4096) for name in self.serving)
        return Announcement(self.id[:8], (str(self.node.address),), "host", serving=lines)

    def view(self) -> MemberView:
        said = self.announcement()
        return MemberView(self.id, MemberState.ALIVE, False, 1, 1, said, None, b"load")

    async def give(self, link: Link, stream: Stream) -> None:
        self.gave += 1
        views = [other.view() for other in self.others]
        content = client_table.encode(self.node.trust, self.announcement(), views)
        await client_table.give(stream, content)

    async def renew(self, link: Link, stream: Stream) -> None:
        await renewal.give(self.node.trust, link, stream)

    async def give_key(self, link: Link, stream: Stream) -> None:
        await key_handover.give(self.node.trust, link, stream)

    def token(self) -> Any:
        key = self.node.trust.mesh_key
        assert key is not None
        return self.ledger.start_up_token(key, self.id, [self.node.address])

    def vanish(self) -> None:
        self.node.listener._transport.close()


async def member(made: Lab, *serving: str) -> Member:
    told: list[Any] = []
    handlers: dict[str, Any] = {}
    links = PeerLinks(told.append, 60.0, handlers)
    node = await made.node(events=links)
    links.attach(node.transport)
    found = Member(node, links, told, TokenLedger(None), serving=serving)
    desk = JoinDesk(node.trust, found.ledger, lambda: known(found))
    node.transport._join_handler = desk.serve
    links._handlers.update(
        {
            client_table.TABLE_KIND: found.give,
            renewal.RENEW_KIND: found.renew,
            key_handover.KEY_KIND: found.give_key,
        }
    )
    return found


def known(one: Member) -> list[KnownMember]:
    return [KnownMember(m.id, (str(m.node.address),)) for m in (one, *one.others)]


class HostOfClient:
    """The node around a client, as far as its side needs it."""

    def __init__(self) -> None:
        self.driver: Any = self
        self.tables: list[TableReceived] = []
        self.notices: dict[str, str | None] = {}
        self.over: list[str] = []

    def post(self, event: Any) -> None:
        self.tables.append(event)

    def notice(self, kind: str, text: str | None) -> None:
        self.notices[kind] = text

    def cannot_go_on(self, text: str) -> None:
        self.over.append(text)

    def waiting_changed(self, waiting: tuple[dict[str, Any], ...]) -> None:
        raise AssertionError("nobody waits at a client")

    def served(self) -> set[str]:
        """Return what the last table says is served."""
        hosts = self.tables[-1].hosts if self.tables else ()
        return {line.name for view in hosts for line in view.announcement.serving}


@dataclass
class Client:
    side: ClientSide
    host: HostOfClient
    running: "asyncio.Task[None]"

    @property
    def trust(self) -> Any:
        return self.side._trust


@contextlib.asynccontextmanager
async def client_of(one: Member, *, wait: bool = True) -> AsyncIterator[Client]:
    host = HostOfClient()
    options = Options(client=True, join=(JoinToken(one.token(), "--join"),))
    side = ClientSide(Standing(identity.ephemeral(), None, None), options, "lite", host)
    running = asyncio.create_task(side.run())
    try:
        if wait:
            await until(side.entered.is_set)
        yield Client(side, host, running)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await side.close()


async def two(made: Lab) -> tuple[Member, Member]:
    a, b = await member(made, "alpha"), await member(made, "beta")
    a.others, b.others = [b], [a]
    return a, b


async def test_the_table_names_every_host_with_its_load_and_who_gave_it_first() -> None:
    async with lab() as made:
        a, b = await two(made)
        async with client_of(a) as client:
            (table,) = client.host.tables
            assert [view.node_id for view in table.hosts] == [a.id, b.id]
            assert table.hosts[1].load == b"load"
            assert table.hosts[1].announcement.addresses == (str(b.node.address),)
            assert client.host.served() == {"alpha", "beta"}


async def test_another_member_gives_the_table_when_the_first_is_killed() -> None:
    async with lab() as made:
        a, b = await two(made)
        async with client_of(a) as client:
            a.vanish()
            a.node.transport.links.clear()
            client.side.transport.close_link(client.side.transport.links[a.id], "killed")
            b.others = []
            began = time.monotonic()
            client.side.use_failed(a.id)
            await until(lambda: client.host.served() == {"beta"})
            assert time.monotonic() - began < 1.5
            assert b.gave == 1
            b.serving = ("beta", "gamma")
            client.side.use_failed(b.id)
            await until(lambda: client.host.served() == {"beta", "gamma"})
            assert a.gave == 1, "the one that answered last is asked first"


async def test_a_failure_fetches_the_table_at_once_and_a_burst_of_them_not_each_time() -> None:
    async with lab() as made:
        a, b = await two(made)
        async with client_of(a) as client:
            for _ in range(200):
                client.side.use_failed(b.id)
                await asyncio.sleep(0.005)
            assert 2 <= a.gave <= 1 + 1.5 / client_side.REFRESH_MIN_S


async def test_nobody_answering_keeps_the_last_table_and_says_so() -> None:
    async with lab() as made:
        a = await member(made, "alpha")
        async with client_of(a) as client:
            a.links._handlers.pop(client_table.TABLE_KIND)
            client.side.use_failed(a.id)
            await until(lambda: client.host.notices.get("alone"))
            assert client.host.served() == {"alpha"}
            assert not client.host.over
            a.links._handlers[client_table.TABLE_KIND] = a.give
            client.side.use_failed(a.id)
            await until(lambda: client.host.notices.get("alone") is None)


async def test_an_expelled_client_says_so_and_goes() -> None:
    async with lab() as made:
        a, b = await two(made)
        async with client_of(a) as client:
            for one in (a, b):
                one.node.trust.revoke(client.trust.node_id)
                one.node.transport.recheck()
            client.side.use_failed(a.id)
            await until(lambda: client.host.over)
            assert "removed this client" in client.host.over[0]


async def test_an_expelled_member_is_asked_no_more_and_does_not_pass_for_the_client_itself() -> (
    None
):
    async with lab() as made:
        a, b = await two(made)
        async with client_of(a) as client:
            b.node.trust.revoke(a.id)
            b.others = []
            a.links._handlers.pop(client_table.TABLE_KIND)
            client.side.use_failed(a.id)
            await until(lambda: client.host.served() == {"beta"})
            assert a.id not in client.side.transport.links, "its link was closed"
            client.side.use_failed(b.id)
            await until(lambda: b.gave >= 2)
            assert not client.host.over


async def test_a_credential_that_ran_out_is_had_anew_by_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_side, "REJOIN_S", 0.0)
    lifetime_s = credentials.CLIENT_LIFETIME_S
    async with lab() as made:
        a = await member(made, "alpha")
        monkeypatch.setattr(credentials, "CLIENT_LIFETIME_S", -1_000)
        async with client_of(a, wait=False) as client:
            await asyncio.sleep(0)
            await until(lambda: client.side._joined_s)
            await until(lambda: client.trust.credential().expires_s < time.time())
            monkeypatch.setattr(credentials, "CLIENT_LIFETIME_S", lifetime_s)
            await until(client.side.entered.is_set)
            assert client.trust.credential().expires_s > time.time()
            assert not client.host.over


async def test_a_new_key_of_the_mesh_reaches_the_client_with_the_table() -> None:
    async with lab() as made:
        a, b = await two(made)
        async with client_of(a) as client:
            before = client.trust.credential()
            record = a.node.trust.rotate()
            b.node.trust.add_records([], [record], a.node.trust.mesh_key)
            client.side.use_failed(a.id)
            await until(lambda: client.trust.epoch == 2)
            await until(lambda: client.trust.credential().epoch == 2)
            assert client.trust.credential() != before
            # A new connection, so both sides show the new key's credentials.
            assert (await client.side.transport.dial([b.node.address], b.id)).is_up
            fresh = await client.side.transport.dial([a.node.address], a.id, fresh=True)
            assert fresh.is_up


async def test_members_keep_nothing_of_a_client_beyond_its_open_connections() -> None:
    async with lab() as made:
        a, _ = await two(made)
        async with client_of(a) as client:
            link = a.node.transport.links[client.trust.node_id]
            assert link.role is Role.CLIENT
            towards = client.side.transport.links[a.id]
            for kind in ("gossip", key_handover.KEY_KIND, "doctor", "anything"):
                stream = await towards.open_stream(kind)
                stream.write_now(b"let me in")
                stream.end()
                with pytest.raises(StreamAbortedError):
                    await stream.read_all(1000, 2)
            towards.send_datagram(b"gossip")
            await asyncio.sleep(0.05)
            assert a.told == [], "the core hears nothing of a client, whatever it sends"
        await until(lambda: client.trust.node_id not in a.node.transport.links)
        assert a.told == []
        assert a.node.transport.connections == 0
        assert not client.side.transport.links


async def test_a_client_serves_nothing_to_those_it_dialled() -> None:
    async with lab() as made:
        a, _ = await two(made)
        async with client_of(a) as client:
            link = a.node.transport.links[client.trust.node_id]
            for kind in ("gossip", "request", client_table.TABLE_KIND):
                stream = await link.open_stream(kind)
                stream.end()
                with pytest.raises(StreamAbortedError):
                    await stream.read(progress_s=2)
            assert client.side.transport.listen_port == 0
