"""Who is refused inside the handshake, on real sockets: each reason by itself, seen at both ends."""

import asyncio
import datetime
import socket
import time
from dataclasses import replace
from typing import Any

import pytest
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from nodes.mesh.ids import NodeId
from nodes.runtime import identity, mesh_key, outbound
from nodes.runtime.counters import Counted
from nodes.runtime.credentials import Role, certificate_for, issue, issue_until
from nodes.runtime.dial_errors import DialError
from nodes.runtime.transport_settings import TransportSettings, client_configuration
from nodes.runtime.trust_records import signed_revocation
from tests.nodes.link_lab import QUICK, Lab, LabNode, lab, overrule, until


async def refusal(one: LabNode, two: LabNode, expected: NodeId | None = None) -> str:
    """Return the code with which the dial from `one` to `two` failed; fail if it did not."""
    with pytest.raises(DialError) as caught:
        await one.transport.dial([two.address], expected or two.id)
    assert not two.transport.links, "the refused node must not be known at the other end"
    assert not one.transport.links
    assert not two.seen.ups
    return caught.value.codes[two.address]


async def test_a_server_with_another_id_is_refused_as_wrong_node() -> None:
    async with lab() as made:
        one, two, three = await made.node(), await made.node(), await made.node()
        assert await refusal(one, two, expected=three.id) == "wrong_node"
        assert one.transport.counters[Counted.HANDSHAKES_REFUSED] == 1


async def test_a_server_of_another_mesh_is_refused() -> None:
    async with lab() as made:
        one, two = await made.node(), await made.node(key=mesh_key.new_mesh())
        assert await refusal(one, two) == "other_mesh"


async def test_a_client_of_another_mesh_is_refused_by_the_server() -> None:
    async with lab() as made:
        one, two = await made.node(key=mesh_key.new_mesh()), await made.node()
        overrule(one.trust, "admit", lambda node_id, credential: credential)
        assert await refusal(one, two) == "other_mesh"
        assert two.transport.counters[Counted.HANDSHAKES_REFUSED] == 1


async def test_a_credential_signed_by_a_stranger_for_this_mesh_is_refused() -> None:
    async with lab() as made:
        two = await made.node()
        stranger = mesh_key.new_mesh()
        forged = replace(stranger, mesh_id=made.key.mesh_id)
        who = identity.ephemeral()
        one = await made.node(
            who=who, credential=issue(forged, who.node_id, Role.MEMBER, time.time())
        )
        assert await refusal(one, two) == "other_key"


async def test_a_credential_of_another_node_is_refused() -> None:
    async with lab() as made:
        two = await made.node()
        other = issue(made.key, identity.ephemeral().node_id, Role.MEMBER, time.time())
        one = await made.node(credential=other)
        assert await refusal(one, two) == "credential_of_another_node"


async def test_an_expired_credential_is_refused() -> None:
    async with lab() as made:
        two, who = await made.node(), identity.ephemeral()
        old = issue_until(made.key, who.node_id, Role.MEMBER, time.time() - 9e5, time.time() - 400)
        one = await made.node(who=who)
        overrule(one.trust, "certificate", lambda: certificate_for(who, old))
        assert await refusal(one, two) == "credential_expired"


async def test_a_credential_from_the_future_is_refused() -> None:
    async with lab() as made:
        two, who = await made.node(), identity.ephemeral()
        early = issue_until(
            made.key, who.node_id, Role.MEMBER, time.time() + 9e3, time.time() + 9e5
        )
        one = await made.node(who=who, credential=early)
        assert await refusal(one, two) == "credential_not_yet_valid"


async def test_a_server_with_an_expired_credential_is_refused_by_the_client() -> None:
    async with lab() as made:
        one, who = await made.node(), identity.ephemeral()
        old = issue_until(made.key, who.node_id, Role.MEMBER, time.time() - 9e5, time.time() - 400)
        two = await made.node(who=who)
        overrule(two.trust, "certificate", lambda: certificate_for(who, old))
        assert await two_dials_fail(one, two) == "credential_expired"


async def two_dials_fail(one: LabNode, two: LabNode) -> str:
    """The listener takes a changed certificate from the second handshake on."""
    with pytest.raises(DialError):
        await one.transport.dial([two.address], identity.ephemeral().node_id)
    return await refusal(one, two)


async def test_a_revoked_id_is_refused_and_its_link_closed() -> None:
    async with lab() as made:
        one, two = await made.pair()
        two.trust.add_records([signed_revocation(made.key, one.id, time.time())], [])
        two.transport.recheck()
        await until(lambda: one.seen.downs)
        assert one.seen.downs[0][3] == "node_revoked"
        two.seen.ups.clear()
        assert await refusal(one, two) == "node_revoked"


async def test_a_client_cannot_be_dialled_as_a_member() -> None:
    async with lab() as made:
        one, two = await made.node(), await made.node()
        client = issue(made.key, two.id, Role.CLIENT, time.time())
        overrule(two.trust, "certificate", lambda: certificate_for(two.trust.identity, client))
        assert await two_dials_fail(one, two) == "not_a_member"


async def test_a_client_with_its_credential_is_let_in_and_known_as_one() -> None:
    async with lab() as made:
        two, one = await made.node(), await made.node(client=True)
        await one.transport.dial([two.address], two.id)
        await until(lambda: two.transport.links)
        assert two.link_to(one).role is Role.CLIENT
        assert one.link_to(two).role is Role.MEMBER


async def bare_dial(made: Lab, two: LabNode, certificate: object, key: Any) -> str:
    """Dial with a certificate and key of the test's own making; return how it ended."""
    one = await made.node()
    overrule(one.trust, "certificate", lambda: certificate)
    one.trust.identity = replace(one.trust.identity, private_key=key)
    return await refusal(one, two)


async def test_no_certificate_is_refused() -> None:
    async with lab() as made:
        two = await made.node()
        assert await bare_dial(made, two, None, None) == "no_certificate"


async def test_a_certificate_without_credential_is_refused() -> None:
    async with lab() as made:
        two, who = await made.node(), identity.ephemeral()
        certificate = certificate_for(who, None)
        assert await bare_dial(made, two, certificate, who.private_key) == "no_credential"


async def test_a_members_certificate_with_another_key_is_refused() -> None:
    async with lab() as made:
        two, who = await made.node(), identity.ephemeral()
        certificate = certificate_for(who, issue(made.key, who.node_id, Role.MEMBER, time.time()))
        code = await bare_dial(made, two, certificate, identity.ephemeral().private_key)
        assert "signature" in code.lower() or "0x133" in code


async def test_a_certificate_that_is_not_ed25519_is_refused() -> None:
    async with lab() as made:
        two = await made.node()
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rsa")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        # aioquic's client offers no signature that the server asks for, and so no certificate at all.
        code = await bare_dial(made, two, certificate, key)
        assert code in ("no_certificate", "certificate_not_ed25519")


async def test_an_unknown_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "ALPN_MESH", "h3")
    async with lab() as made:
        one, two = await made.node(), await made.node()
        assert "ALPN" in await refusal(one, two)


async def test_under_the_joining_protocol_strangers_are_refused_where_nobody_serves_joins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbound, "ALPN_MESH", "mesh-join/1")
    async with lab() as made:
        one, two = await made.node(key=mesh_key.new_mesh()), await made.node()
        overrule(one.trust, "admit", lambda node_id, credential: credential)
        assert await refusal(one, two) == "other_mesh"


async def test_no_session_ticket_is_ever_given() -> None:
    async with lab() as made:
        one, two = await made.pair()
        for node, other in ((one, two), (two, one)):
            quic = node.connection_to(other)._quic
            assert quic.tls.new_session_ticket_cb is None
            assert quic.tls.get_session_ticket_cb is None
            assert not quic.tls.session_resumed


async def test_a_node_that_dials_itself_is_told_so() -> None:
    async with lab() as made:
        one = await made.node()
        with pytest.raises(DialError) as caught:
            await one.transport.dial([one.address], None)
        assert caught.value.codes[one.address] == "own_id"
        assert not one.seen.twins


async def test_half_open_handshakes_are_bounded_and_end_in_time() -> None:
    settings = replace(QUICK, half_open_max=4, retry_from=100, handshake_timeout_s=0.4)
    async with lab() as made:
        two = await made.node(settings=settings)
        listener = two.listener
        starts = []
        for _ in range(12):
            starts.append(await half_dial(two))
        await until(lambda: two.transport.counters[Counted.HANDSHAKES_LIMITED] >= 8)
        assert len(listener.half_open) <= 4
        await until(lambda: not listener.half_open)
        assert two.transport.counters[Counted.HANDSHAKES_TIMED_OUT] >= 4
        await until(lambda: not listener._protocols)
        for sock in starts:
            sock.close()


async def half_dial(two: LabNode) -> socket.socket:
    """Send only the first packet of a handshake."""
    who = identity.ephemeral()
    quic = QuicConnection(
        configuration=client_configuration(
            who, certificate_for(who, None), TransportSettings(), "mesh/1"
        )
    )
    quic.connect((two.address.host, two.address.port), now=asyncio.get_running_loop().time())
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for content, _ in quic.datagrams_to_send(now=asyncio.get_running_loop().time()):
        sock.sendto(content, (two.address.host, two.address.port))
    return sock


async def test_one_address_may_begin_only_so_many_handshakes() -> None:
    settings = replace(QUICK, handshakes_per_s=0.0, handshakes_burst=3)
    async with lab() as made:
        two = await made.node(settings=settings)
        for _ in range(3):
            one = await made.node()
            await one.transport.dial([two.address], two.id)
        late = await made.node()
        with pytest.raises(DialError):
            await late.transport.dial([two.address], two.id, 0.5)
        assert two.transport.counters[Counted.HANDSHAKES_LIMITED] >= 1
        assert len(two.transport.links) == 3


async def test_under_pressure_an_address_must_show_that_it_receives_and_still_gets_in() -> None:
    settings = replace(QUICK, retry_from=0)
    async with lab() as made:
        one, two = await made.node(), await made.node(settings=settings)
        await one.transport.dial([two.address], two.id)
        assert one.connection_to(two)._quic._retry_count == 1
