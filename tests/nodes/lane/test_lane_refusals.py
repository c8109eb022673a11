"""Who gets no tunnel: each stranger is refused inside the handshake, and the lane goes on."""

import asyncio
import socket
import ssl
import time
from typing import Any

import pytest
from OpenSSL import SSL

from nodes.mesh.ids import NodeId
from nodes.runtime import identity, mesh_key
from nodes.runtime.credentials import Credential, Role, certificate_for, issue_until
from nodes.runtime.lane import settings
from nodes.runtime.lane.channel import LostCode, TunnelLostError
from nodes.runtime.lane.settings import LaneSettings
from nodes.runtime.trust import Trust
from tests.nodes.lane.lab import LabLane, LaneLab, lanes
from tests.nodes.link_lab import until


def anybody(node_id: NodeId, credential: Credential | None) -> Any:
    """Admit whoever comes: of two sides that would refuse, a test wants one."""
    return credential


async def refused_word(one: LabLane, two: LabLane) -> str:
    """Return the word that the listening side counts after a dial that it refuses."""
    before = dict(two.lane.refused)
    one.knows(two)
    with pytest.raises(TunnelLostError) as caught:
        await one.lane.open(two.id, "echo", b"")
    assert caught.value.code == LostCode.UNREACHABLE
    assert "refused_by_peer" in str(caught.value)
    await until(lambda: two.lane.refused != before)
    (word,) = [w for w, n in two.lane.refused.items() if n != before.get(w, 0)]
    assert not two.seen
    assert not two.channels
    return word


async def serves(lab: LaneLab, two: LabLane) -> None:
    """Check that a member still gets through."""
    member = await lab.lane()
    member.knows(two)
    tunnel = await member.lane.open(two.id, "echo", b"")
    await tunnel.write(b"hello")
    assert await tunnel.read() == b"hello"


async def test_a_member_of_another_mesh_is_refused() -> None:
    async with lanes() as lab:
        two = await lab.lane()
        stranger = await lab.lane(key=mesh_key.new_mesh())
        # It would admit our node, so that the refusal can only be ours.
        stranger.lane._pool._admission = anybody
        assert await refused_word(stranger, two) == "other_mesh"
        await serves(lab, two)


async def test_a_client_of_the_mesh_is_refused() -> None:
    async with lanes() as lab:
        two = await lab.lane()
        client = await lab.lane(client=True)
        assert await refused_word(client, two) == "not_a_member"


async def test_a_revoked_member_is_refused() -> None:
    async with lanes() as lab:
        two, gone = await lab.lane(), await lab.lane()
        two.trust.revoke(gone.id)
        assert await refused_word(gone, two) == "node_revoked"
        await serves(lab, two)


async def test_an_expired_credential_is_refused() -> None:
    async with lanes() as lab:
        two = await lab.lane()
        who = identity.ephemeral()
        now = time.time()
        old = issue_until(lab.key, who.node_id, Role.MEMBER, now - 9000, now - 5000)
        trust = Trust(who, None, old, now_s=lambda: now - 6000)
        late = await lab.lane(trust=trust)
        late.lane._pool._admission = anybody
        assert await refused_word(late, two) == "credential_expired"


async def test_a_certificate_with_another_nodes_credential_is_refused() -> None:
    async with lanes() as lab:
        two, member = await lab.lane(), await lab.lane()
        thief = await lab.lane()
        stolen = member.trust.credential()
        assert thief.trust.certificate()
        thief.trust._certificate = certificate_for(thief.trust.identity, stolen)
        assert await refused_word(thief, two) == "credential_of_another_node"


async def test_a_certificate_without_a_credential_is_refused() -> None:
    async with lanes() as lab:
        two, bare = await lab.lane(), await lab.lane()
        assert bare.trust.certificate()
        bare.trust._certificate = certificate_for(bare.trust.identity, None)
        assert await refused_word(bare, two) == "no_credential"


async def test_the_wrong_node_at_the_right_address_is_refused_by_who_dialled() -> None:
    async with lanes() as lab:
        one, two, third = [await lab.lane() for _ in range(3)]
        one.lane.endpoints.set(third.id, two.endpoint)
        with pytest.raises(TunnelLostError, match="other_node"):
            await one.lane.open(third.id, "echo", b"")
        await until(lambda: not two.channels)
        assert not two.seen


async def test_without_a_certificate_there_is_no_tunnel() -> None:
    async with lanes() as lab:
        two = await lab.lane()
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols([settings.ALPN.decode()])
        reader, writer = await asyncio.open_connection(
            two.endpoint.host, two.endpoint.port, ssl=context
        )
        with pytest.raises(OSError, match=r"alert|reset|closed"):
            # Its handshake looks complete (TLS 1.3); the first read brings the refusal.
            assert await reader.read(1)
            raise AssertionError("the lane spoke to a stranger")
        writer.close()
        await until(lambda: two.lane.refused.get("no_certificate"))
        await serves(lab, two)


@pytest.mark.parametrize("protocols", [[], [b"mesh/1"]])
async def test_another_protocol_over_tls_is_refused(protocols: list[bytes]) -> None:
    async with lanes() as lab:
        two, one = await lab.lane(), await lab.lane()
        one.knows(two)
        context = one.lane._pool._contexts.context()
        context.set_alpn_protos(protocols or [b"x"])
        with pytest.raises(TunnelLostError):
            await one.lane.open(two.id, "echo", b"")
        await until(lambda: two.lane.refused.get("other_protocol"))


async def test_an_older_tls_is_refused() -> None:
    async with lanes() as lab:
        two = await lab.lane()
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError):
            await asyncio.open_connection(two.endpoint.host, two.endpoint.port, ssl=context)
        await serves(lab, two)


async def test_a_session_cannot_be_resumed_around_the_judgement() -> None:
    """A second handshake with the first one's session is judged again: the revocation holds."""
    async with lanes() as lab:
        two = await lab.lane()
        trust = lab.trust()
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(trust.certificate())
        context.use_privatekey(trust.identity.private_key)
        context.set_alpn_protos([settings.ALPN])

        def dial(session: Any) -> tuple[SSL.Connection, Any]:
            sock = socket.create_connection((two.endpoint.host, two.endpoint.port), timeout=5)
            sock.setblocking(True)
            connection = SSL.Connection(context, sock)
            connection.set_connect_state()
            if session is not None:
                connection.set_session(session)
            connection.do_handshake()
            return connection, connection.recv(5)

        connection, ready = await asyncio.to_thread(dial, None)
        assert ready == b"\1\0\0\1\1"
        session = connection.get_session()
        two.trust.revoke(trust.node_id)
        assert session is not None
        with pytest.raises(SSL.Error):
            await asyncio.to_thread(dial, session)
        await until(lambda: two.lane.refused.get("node_revoked"))


async def test_bytes_that_are_no_tls_end_their_connection_alone() -> None:
    async with lanes() as lab:
        two = await lab.lane()
        for junk in (
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(1000),
            b"\x16\x03\x01\xff\xff" + bytes(70_000),
        ):
            reader, writer = await asyncio.open_connection(two.endpoint.host, two.endpoint.port)
            writer.write(junk)
            answer = await asyncio.wait_for(_read_to_end(reader), 5)
            assert len(answer) <= 7, "more than an alert"
            writer.close()
        await until(lambda: not two.channels)
        await serves(lab, two)


async def test_a_silent_handshake_ends_in_time_and_many_of_them_are_bounded() -> None:
    slow = LaneSettings(handshake_timeout_s=0.3, half_open_max=4)
    async with lanes() as lab:
        two = await lab.lane(settings=slow)
        opened = [
            await asyncio.open_connection(two.endpoint.host, two.endpoint.port) for _ in range(12)
        ]
        assert len(two.channels) <= 4
        for reader, writer in opened:
            assert await asyncio.wait_for(_read_to_end(reader), 5) == b""
            writer.close()
        assert two.lane.refused["handshake_timeout"] == 4
        await serves(lab, two)


async def test_a_revocation_ends_the_tunnels_that_stand() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        tunnel = await one.lane.open(two.id, "hold", b"")
        await until(lambda: two.held)
        two.trust.revoke(one.id)
        two.lane.set_trust(two.trust)
        with pytest.raises(TunnelLostError):
            await tunnel.read()
        with pytest.raises(TunnelLostError):
            await two.held[0].read()
        assert not two.channels


async def test_frames_that_break_the_rules_end_their_connection_alone() -> None:
    async with lanes() as lab:
        one, two = await lab.pair()
        for junk in (b"\xff\0\0\0", b"\x05\xff\xff\xff", b"\x06\x00\x00\x01x", b"\x02\0\0\x01x"):
            tunnel = await one.lane.open(two.id, "echo", b"")
            tunnel.end()
            assert await tunnel.read() is None
            one.channels[0].wire.send(junk)
            await until(lambda: not one.channels and not two.channels)
        await serves(lab, two)


async def test_a_certificate_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lanes() as lab:
        two, one = await lab.lane(), await lab.lane()
        monkeypatch.setattr("nodes.runtime.lane.tls.MAX_CERTIFICATE_BYTES", 10)
        one.lane._pool._admission = anybody
        one.knows(two)
        with pytest.raises(TunnelLostError, match="certificate_malformed"):
            await one.lane.open(two.id, "echo", b"")


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
