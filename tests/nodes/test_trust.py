"""Who is admitted: credentials, revocations, rotations; how they are told on, and kept."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nodes.mesh.ids import NodeId
from nodes.runtime import identity, mesh_key, trust_file, trust_notices
from nodes.runtime.address_limits import AddressLimits
from nodes.runtime.credentials import (
    MEMBER_LIFETIME_S,
    Credential,
    CredentialError,
    Role,
    certificate_for,
    issue,
    peer_of,
)
from nodes.runtime.mesh_key import MeshKey
from nodes.runtime.token_ledger import TokenLedger
from nodes.runtime.trust import EPOCH_GRACE_S, MAX_REVOCATIONS, Trust
from nodes.runtime.trust_file import TrustFileError
from nodes.runtime.trust_records import signed_revocation, signed_rotation


class Clock:
    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s


def member(key: MeshKey, clock: Callable[[], float] = time.time) -> Trust:
    return Trust(identity.ephemeral(), key, None, clock)


def refused(trust: Trust, other: Trust) -> str:
    """Return why `trust` does not admit `other`; empty when it does."""
    try:
        trust.admit(other.node_id, other.credential())
    except CredentialError as error:
        return error.code
    return ""


def test_a_credential_comes_back_from_bytes_and_from_a_certificate() -> None:
    key, who = mesh_key.new_mesh(), identity.ephemeral()
    credential = issue(key, who.node_id, Role.CLIENT, 1_700_000_000)
    assert Credential.decode(credential.encode()) == credential
    assert len(credential.encode()) <= 512
    assert peer_of(certificate_for(who, credential)) == (who.node_id, credential)
    assert peer_of(certificate_for(who, None)) == (who.node_id, None)


def test_every_changed_byte_of_a_credential_is_noticed() -> None:
    content = issue(mesh_key.new_mesh(), identity.ephemeral().node_id, Role.MEMBER, 0).encode()
    for at in range(len(content)):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        with pytest.raises(CredentialError):
            Credential.decode(changed)
    for length in (0, 1, len(content) - 1):
        with pytest.raises(CredentialError):
            Credential.decode(content[:length])


def test_a_client_cannot_make_itself_a_member() -> None:
    credential = issue(mesh_key.new_mesh(), identity.ephemeral().node_id, Role.CLIENT, 0)
    with pytest.raises(CredentialError, match="forged"):
        Credential.decode(replace(credential, role=Role.MEMBER).encode())


def test_members_admit_each_other_and_renew_long_before_the_end() -> None:
    key, clock = mesh_key.new_mesh(), Clock()
    one, two = member(key, clock), member(key, clock)
    first, shown = two.credential(), two.certificate()
    assert refused(one, two) == ""
    clock.now_s += MEMBER_LIFETIME_S * 0.4
    assert two.credential() is first
    clock.now_s += MEMBER_LIFETIME_S * 0.2
    assert two.credential().expires_s > first.expires_s
    assert two.certificate() is not shown
    clock.now_s += 10 * MEMBER_LIFETIME_S
    assert refused(one, two) == ""


def test_after_a_rotation_both_epochs_are_admitted_for_a_day_and_then_only_the_new() -> None:
    key, clock = mesh_key.new_mesh(), Clock()
    one, away = member(key, clock), member(key, clock)
    record = one.rotate()
    assert refused(one, away) == ""
    assert refused(away, one) == "other_epoch"
    assert away.add_records([], [record])
    assert refused(away, one) == ""
    clock.now_s += EPOCH_GRACE_S + 1
    assert refused(one, away) == "old_epoch"
    assert away.add_records([], [], one.mesh_key)
    assert refused(one, away) == ""


def test_a_rotation_or_key_that_the_mesh_did_not_sign_is_left_out() -> None:
    key = mesh_key.new_mesh()
    one, stranger = member(key), mesh_key.new_mesh()
    forged = signed_rotation(replace(stranger, mesh_id=key.mesh_id), key.rotated(), time.time())
    assert not one.add_records([], [forged])
    assert not one.add_records([], [], key.rotated())
    assert one.epoch == 1


def test_a_revoked_node_is_out_whatever_it_shows_and_strangers_cannot_revoke() -> None:
    key = mesh_key.new_mesh()
    one, two = member(key), member(key)
    stranger = mesh_key.new_mesh()
    forged = signed_revocation(replace(stranger, mesh_id=key.mesh_id), two.node_id, time.time())
    assert not one.add_records([forged], [])
    assert refused(one, two) == ""
    changes = []
    one.on_change = lambda: changes.append(1)
    assert one.add_records([signed_revocation(key, two.node_id, time.time())], [])
    assert refused(one, two) == "node_revoked"
    assert not one.add_records([signed_revocation(key, two.node_id, time.time())], [])
    assert changes == [1]


def test_revocations_are_bounded() -> None:
    key = mesh_key.new_mesh()
    one = member(key)
    records = [signed_revocation(key, NodeId(f"{n:064x}"), 1) for n in range(MAX_REVOCATIONS + 5)]
    one.add_records(records, [])
    assert len(one.records()[0]) == MAX_REVOCATIONS


def test_what_was_revoked_and_rotated_is_known_after_a_restart(tmp_path: Path) -> None:
    key, clock = mesh_key.new_mesh(), Clock()
    one, two, three = (member(key, clock) for _ in range(3))
    one.revoke(two.node_id)
    one.rotate()
    trust_file.save(tmp_path, one)
    again = Trust(one.identity, one.mesh_key, None, clock)
    trust_file.load(tmp_path, again)
    assert refused(again, two) == "node_revoked"
    assert refused(again, three) == "", "within the grace of the epoch before"
    assert again.records() == one.records()
    other_mesh = member(mesh_key.new_mesh())
    trust_file.load(tmp_path, other_mesh)
    assert other_mesh.records() == ((), ())


def test_a_broken_trust_file_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "trust"
    path.write_bytes(b"{}")
    path.chmod(0o600)
    with pytest.raises(TrustFileError, match="revoked nodes could come in"):
        trust_file.load(tmp_path, member(mesh_key.new_mesh()))


def test_joining_another_mesh_leaves_the_old_one() -> None:
    one, key = member(mesh_key.new_mesh()), mesh_key.new_mesh()
    one.revoke(NodeId("0" * 64))
    one.enter(key, issue(key, one.node_id, Role.MEMBER, time.time()))
    assert one.mesh_id == key.mesh_id
    assert one.records() == ((), ())
    assert refused(member(key), one) == ""


def test_the_core_believes_members_of_this_mesh_only() -> None:
    key = mesh_key.new_mesh()
    one, two = member(key), member(key)
    key_bytes, credential = two.identity.public_key, two.credential().encode()
    assert trust_notices.accept_member(one, two.node_id, key_bytes, credential)
    other = member(mesh_key.new_mesh())
    client = issue(key, two.node_id, Role.CLIENT, time.time()).encode()
    for node_id, public_key, shown in (
        (one.node_id, key_bytes, credential),
        (two.node_id, one.identity.public_key, credential),
        (other.node_id, other.identity.public_key, other.credential().encode()),
        (two.node_id, key_bytes, client),
        (two.node_id, key_bytes, b""),
        (two.node_id, b"short", credential),
    ):
        assert not trust_notices.accept_member(one, node_id, public_key, shown)


def test_notices_of_revocation_rotation_and_tokens_spread_what_they_say() -> None:
    key = mesh_key.new_mesh()
    one, two = member(key), member(key)
    ledger, other = TokenLedger(None), TokenLedger(None)
    token = ledger.issue(key, one.node_id, [], lifetime_s=60, max_uses=1)
    ledger.redeem(key, token, two.node_id, client=False)
    used = trust_notices.token_notice(key, ledger.records()[0], two.node_id, time.time())
    gone = trust_notices.token_notice(key, ledger.records()[0], None, time.time())
    revoked = trust_notices.revocation_notice(one.revoke(NodeId("f" * 64)))
    rotated = trust_notices.rotation_notice(one.rotate())
    for topic, version, body in (used, gone, revoked, rotated):
        assert len(topic) <= 160
        assert len(body) <= 512
        assert trust_notices.accept_notice(two, topic, version, body), topic
        assert trust_notices.apply_notice(two, other, topic, body)
    assert two.is_revoked(NodeId("f" * 64))
    assert two.epoch == 2
    assert other.records()[0].revoked
    assert other.records()[0].uses_left == 0


def test_notices_that_are_forged_moved_or_broken_are_not_accepted() -> None:
    key = mesh_key.new_mesh()
    one, two = member(key), member(mesh_key.new_mesh())
    topic, version, body = trust_notices.revocation_notice(one.revoke(NodeId("f" * 64)))
    assert not trust_notices.accept_notice(two, topic, version, body)
    assert not trust_notices.accept_notice(one, "revoke/" + "e" * 64, version, body)
    assert not trust_notices.accept_notice(one, topic, version + 1, body)
    assert not trust_notices.accept_notice(one, topic, version, body[:-1] + b"x")
    for other in ("epoch/2", "token/00", "used/00/11", "drop/model", "", "revoke/"):
        assert not trust_notices.accept_notice(one, other, version, body)
        assert not trust_notices.accept_notice(one, other, version, msgspec.msgpack.encode({}))


def test_each_address_has_its_own_bounded_bucket() -> None:
    limits = AddressLimits(per_s=1.0, burst=2, addresses_max=3)
    assert [limits.allow("10.0.0.1", 0.0) for _ in range(3)] == [True, True, False]
    assert limits.allow("10.0.0.2", 0.0)
    assert limits.allow("10.0.0.1", 1.0)
    assert not limits.allow("::ffff:10.0.0.1", 1.0), "the same machine over a dual-stack socket"
    for number in range(100):
        limits.allow(f"2001:db8:{number:x}:1::5", 2.0)
    assert len(limits) == 3
    assert limits.allow("fd00:1:2:3::1", 3.0)
    assert limits.allow("fd00:1:2:3::2", 3.0)
    assert not limits.allow("fd00:1:2:3:ffff::9", 3.0), "one /64 is one site"
