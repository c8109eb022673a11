"""Who does not get through to an rpc-server: other peers, other terms, other local processes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models_registry.rpc import words
from models_registry.rpc.grants import PORTS_MAX, Grant, Grants, NotGranted
from models_registry.rpc.local_client import LocalClient
from models_registry.rpc.sock_diag import Place
from models_registry.rpc.words import OpenRpc
from nodes.mesh.ids import NodeId
from nodes.runtime.lane.channel import LostCode, TunnelLostError
from nodes.runtime.lane.tunnel import Tunnel
from tests.models_registry.rpc.duo import TERM, Duo, duo
from tests.models_registry.rpc.wire import hello, hello_answer
from tests.nodes.lane.lab import LabLane, LaneLab
from tests.nodes.link_lab import until


async def ask(who: LabLane, pair: Duo, *, term: int = TERM, port: int = 0) -> Tunnel:
    details = words.encode(OpenRpc(port or pair.server.port, term))
    return await who.lane.open(pair.worker.id, words.RPC_PURPOSE, details)


async def other_member(pair: Duo) -> tuple[LaneLab, LabLane]:
    """Return another lane of the same mesh that knows the worker."""
    lab = LaneLab()
    key = pair.host.trust.mesh_key
    assert key is not None
    lab.key = key
    other = await lab.lane()
    other.knows(pair.worker)
    return lab, other


async def test_the_host_of_the_split_in_its_term_gets_through() -> None:
    async with duo([], []) as pair:
        tunnel = await ask(pair.host, pair)
        await tunnel.write(hello())
        assert await tunnel.read() == hello_answer()


async def test_another_member_is_refused_and_learns_nothing() -> None:
    async with duo([], []) as pair:
        lab, other = await other_member(pair)
        said = set()
        for port in (pair.server.port, 1, 22):
            with pytest.raises(TunnelLostError) as caught:
                await ask(other, pair, port=port)
            assert caught.value.code == LostCode.REFUSED
            said.add(str(caught.value))
        assert said == {"no rpc-server here is yours"}
        assert not pair.server.clients
        await other.lane.close()
        assert lab.lanes


@pytest.mark.parametrize("term", [TERM - 1, TERM + 1])
async def test_another_term_is_refused(term: int) -> None:
    async with duo([], []) as pair:
        with pytest.raises(TunnelLostError, match="term is 3"):
            await ask(pair.host, pair, term=term)
        assert not pair.server.clients


async def test_a_port_that_was_not_granted_is_refused_to_the_host_too() -> None:
    async with duo([], []) as pair:
        with pytest.raises(TunnelLostError, match="no rpc-server here is yours"):
            await ask(pair.host, pair, port=22)


async def test_a_revoked_host_is_cut_off_in_mid_tunnel() -> None:
    async with duo([], []) as pair:
        client = await pair.client()
        await client.ask(hello())
        pair.worker.trust.revoke(pair.host.id)
        pair.worker.lane.set_trust(pair.worker.trust)
        assert await client.is_cut()
        await until(lambda: not pair.server.open_now)
        with pytest.raises(TunnelLostError):
            await ask(pair.host, pair)


async def test_a_new_term_cuts_the_old_hosts_tunnels_and_lets_the_new_host_in() -> None:
    async with duo([], []) as pair:
        _, other = await other_member(pair)
        client = await pair.client()
        await client.ask(hello())
        await pair.door.grant(Grant(pair.server.port, other.id, TERM + 1), [])
        assert await client.is_cut()
        with pytest.raises(TunnelLostError):
            await ask(pair.host, pair)
        tunnel = await ask(other, pair, term=TERM + 1)
        await tunnel.write(hello())
        assert await tunnel.read() == hello_answer()
        with pytest.raises(NotGranted, match="newer"):
            await pair.door.grant(Grant(pair.server.port, pair.host.id, TERM), [])
        await other.lane.close()


async def test_a_withdrawn_grant_cuts_its_tunnels() -> None:
    async with duo([], []) as pair:
        client = await pair.client()
        await client.ask(hello())
        pair.door.withdraw(pair.server.port)
        assert await client.is_cut()
        assert await (await pair.client()).is_cut()


async def test_openings_that_make_no_sense_are_refused() -> None:
    async with duo([], []) as pair:
        for details in (b"", b"\xff" * 50, words.encode(words.Fed(1))):
            with pytest.raises(TunnelLostError) as caught:
                await pair.host.lane.open(pair.worker.id, words.RPC_PURPOSE, details)
            assert caught.value.code == LostCode.REFUSED


@pytest.mark.parametrize(
    "word",
    [
        b"\x00",
        words.encode(words.Fed(1)),
        words.encode(words.Filled(1)),
        words.encode(words.Reference(1, b"short", 5, bytes(32))),
        words.encode(words.Reference(1, bytes(305), -5, bytes(32))),
    ],
)
async def test_a_host_that_talks_nonsense_ends_its_own_tunnel(word: bytes) -> None:
    async with duo([], []) as pair:
        tunnel = await ask(pair.host, pair)
        await tunnel.tell(word)
        with pytest.raises(TunnelLostError):
            while await tunnel.read() is not None:
                pass
        again = await ask(pair.host, pair)
        await again.write(hello())
        assert await again.read() == hello_answer()


async def test_a_host_that_never_sends_wanted_bytes_fills_no_memory(tmp_path: Path) -> None:
    async with duo([], []) as pair:
        tunnel = await ask(pair.host, pair)
        await tunnel.tell(words.encode(words.Reference(1, bytes(305), 5000, bytes(32))))
        sent = 0
        with pytest.raises(TunnelLostError):
            while sent < 64 << 20:
                await tunnel.write(bytes(256 << 10))
                sent += 256 << 10
        assert sent < 32 << 20


def cannot_be_asked(ours: Place, theirs: Place) -> int | None:
    raise OSError("a sandbox without netlink")


@pytest.mark.parametrize("by", ["the kernel", "psutil"])
async def test_a_foreign_local_process_is_turned_away_and_the_engine_is_not(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "psutil":
        monkeypatch.setattr("models_registry.rpc.local_client.inode_of", cannot_be_asked)
    async with duo([], [], name_client=False) as pair:
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=subprocess.PIPE
        )
        named = LocalClient.of(other.pid)
        assert named is not None
        pair.port.name_client(named)
        # This process is not the one that was named.
        assert await (await pair.client()).is_cut()
        assert pair.counters.refused == 1
        assert pair.counters.connections == 0
        assert not pair.server.clients
        me = LocalClient.of(os.getpid())
        assert me is not None
        pair.port.name_client(me)
        client = await pair.client()
        assert await client.ask(hello()) == hello_answer()[8:]
        other.kill()
        await other.wait()


async def test_a_connection_before_the_engine_is_named_waits_for_the_name() -> None:
    async with duo([], [], name_client=False) as pair:
        client = await pair.client()
        asking = asyncio.create_task(client.ask(hello()))
        await asyncio.sleep(0.1)
        assert not asking.done()
        assert not pair.server.clients
        me = LocalClient.of(os.getpid())
        assert me is not None
        pair.port.name_client(me)
        assert await asking == hello_answer()[8:]


async def test_without_a_name_a_connection_is_turned_away_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models_registry.rpc.host_ports.CLIENT_WAIT_S", 0.2)
    async with duo([], [], name_client=False) as pair:
        assert await (await pair.client()).is_cut()
        assert pair.counters.refused == 1


async def test_a_pid_that_was_given_to_somebody_else_since_is_not_the_engine() -> None:
    async with duo([], [], name_client=False) as pair:
        pair.port.name_client(LocalClient(os.getpid(), "12345@another-start"))
        assert await (await pair.client()).is_cut()
        assert pair.counters.refused == 1


def test_a_process_that_ended_is_nobody() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert LocalClient.of(ended.pid) is None


HOST, OTHER = NodeId("a" * 64), NodeId("b" * 64)


def test_grants_go_by_peer_port_and_term() -> None:
    grants = Grants()
    first = Grant(5000, HOST, 1)
    assert grants.give(first) is None
    assert grants.give(first) is None
    assert grants.require(HOST, 5000, 1) == first
    assert grants.give(Grant(5000, OTHER, 2)) == first
    for peer, port, term in ((HOST, 5000, 1), (OTHER, 5000, 1), (OTHER, 5001, 2), (HOST, 5000, 2)):
        with pytest.raises(NotGranted):
            grants.require(peer, port, term)
    with pytest.raises(NotGranted):
        grants.give(first)
    assert grants.withdraw(5000) == Grant(5000, OTHER, 2)
    with pytest.raises(NotGranted):
        grants.require(OTHER, 5000, 2)


def test_the_table_of_grants_is_bounded() -> None:
    grants = Grants()
    for port in range(PORTS_MAX):
        grants.give(Grant(1000 + port, HOST, 1))
    with pytest.raises(NotGranted, match=str(PORTS_MAX)):
        grants.give(Grant(1, HOST, 1))
    grants.give(Grant(1000, HOST, 2))
