"""The list of invitations: issued, counted, revoked, merged; kept without any secret, over restarts."""

from pathlib import Path
from typing import Any

import pytest

from nodes.mesh.ids import NodeId
from nodes.runtime import bind_port, identity, mesh_key
from nodes.runtime.address import Address
from nodes.runtime.bind_port import BindPortError
from nodes.runtime.token import InviteToken, is_genuine
from nodes.runtime.token_errors import TokenRefusedError, TokenRevokedError, TokenUsedUpError
from nodes.runtime.token_ledger import (
    MAX_NODES_PER_RECORD,
    MAX_RECORDS,
    START_UP_LIFETIME_S,
    TokenLedger,
    TokenLedgerError,
)

KEY = mesh_key.new_mesh()
WHO = identity.ephemeral().node_id
HERE = [Address("10.0.0.1", 4000)]


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


def newcomer() -> NodeId:
    return identity.ephemeral().node_id


def test_a_restarted_seeder_shows_the_same_start_up_token(tmp_path: Path) -> None:
    clock = Clock()
    first = TokenLedger(tmp_path, clock).start_up_token(KEY, WHO, HERE)
    clock.now_s += 5 * 86_400
    assert TokenLedger(tmp_path, clock).start_up_token(KEY, WHO, HERE).encode() == first.encode()
    assert first.max_uses is None
    assert first.expires_s == 1_700_000_000 + START_UP_LIFETIME_S


def test_a_start_up_token_near_its_end_or_revoked_or_of_another_key_is_replaced(
    tmp_path: Path,
) -> None:
    clock = Clock()
    ledger = TokenLedger(tmp_path, clock)
    first = ledger.start_up_token(KEY, WHO, HERE)
    clock.now_s += 6.5 * 86_400
    second = ledger.start_up_token(KEY, WHO, HERE)
    assert second.token_id != first.token_id
    ledger.revoke(second.token_id)
    third = ledger.start_up_token(KEY, WHO, HERE)
    assert third.token_id != second.token_id
    assert ledger.start_up_token(KEY.rotated(), WHO, HERE).token_id != third.token_id


def test_the_start_up_token_shows_the_addresses_of_now(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    first = ledger.start_up_token(KEY, WHO, HERE)
    moved = ledger.start_up_token(KEY, WHO, [Address("10.0.0.9", 4000)])
    assert moved.token_id == first.token_id
    assert moved.secret == first.secret
    assert moved.addresses != first.addresses


def test_no_secret_is_on_disk(tmp_path: Path) -> None:
    token = TokenLedger(tmp_path).issue(KEY, WHO, HERE, lifetime_s=60)
    content = (tmp_path / "tokens").read_bytes()
    assert token.token_id.encode() in content
    assert token.secret.hex().encode() not in content
    assert token.encode()[-20:].encode() not in content
    assert (tmp_path / "tokens").stat().st_mode & 0o777 == 0o600


def test_uses_are_counted_over_restarts_and_once_for_each_node(tmp_path: Path) -> None:
    token = TokenLedger(tmp_path).issue(KEY, WHO, HERE, lifetime_s=60, max_uses=2)
    one, two = newcomer(), newcomer()
    for who in (one, one, two):
        TokenLedger(tmp_path).redeem(KEY, token, who, client=False)
    with pytest.raises(TokenUsedUpError):
        TokenLedger(tmp_path).redeem(KEY, token, newcomer(), client=False)
    assert TokenLedger(tmp_path).records()[0].uses_left == 0


def test_a_token_is_revoked_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    token = ledger.issue(KEY, WHO, HERE, lifetime_s=60)
    assert ledger.revoke("zz") is None
    assert ledger.revoke("") is None
    assert ledger.revoke(token.token_id[:6]) is not None
    with pytest.raises(TokenRevokedError):
        TokenLedger(tmp_path).redeem(KEY, token, newcomer(), client=False)


def test_what_two_members_counted_adds_up_in_any_order() -> None:
    one, two = TokenLedger(None), TokenLedger(None)
    token = one.issue(KEY, WHO, HERE, lifetime_s=600, max_uses=2)
    one.redeem(KEY, token, newcomer(), client=False)
    two.redeem(KEY, token, newcomer(), client=False)
    from_one, from_two = one.records()[0], two.records()[0]
    assert one.merge(from_two)
    assert two.merge(from_one)
    assert not two.merge(from_one)
    for ledger in (one, two):
        with pytest.raises(TokenUsedUpError):
            ledger.redeem(KEY, token, newcomer(), client=False)
    one.revoke(token.token_id)
    assert two.merge(one.records()[0])
    assert two.records()[0].revoked
    assert not one.merge(two.records()[0])


def test_open_tokens_are_bounded_and_ended_ones_make_room() -> None:
    clock = Clock()
    ledger = TokenLedger(None, clock)
    for _ in range(MAX_RECORDS):
        ledger.issue(KEY, WHO, HERE, lifetime_s=60)
    with pytest.raises(TokenLedgerError, match="revoke some"):
        ledger.issue(KEY, WHO, HERE, lifetime_s=60)
    clock.now_s += 2 * 86_400
    ledger.issue(KEY, WHO, HERE, lifetime_s=60)
    assert len(ledger.records()) == 1


def test_an_unlimited_token_lets_in_more_nodes_than_are_remembered() -> None:
    ledger = TokenLedger(None)
    token = ledger.issue(KEY, WHO, HERE, lifetime_s=60)
    for number in range(MAX_NODES_PER_RECORD + 5):
        ledger.redeem(KEY, token, NodeId(f"{number:064x}"), client=False)
    assert len(ledger.records()[0].redeemed_by) == MAX_NODES_PER_RECORD


def test_the_fullest_possible_list_can_be_read_again(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    for _ in range(MAX_RECORDS):
        ledger.issue(KEY, WHO, HERE, lifetime_s=60, max_uses=200, label="x" * 80)
    for record in ledger.records():
        record.redeemed_by.extend(NodeId(f"{n:064x}") for n in range(MAX_NODES_PER_RECORD))
    ledger.revoke(ledger.records()[0].token_id)
    assert len(TokenLedger(tmp_path).records()) == MAX_RECORDS


def test_a_token_of_another_mesh_is_refused() -> None:
    token = TokenLedger(None).issue(mesh_key.new_mesh(), WHO, HERE, lifetime_s=60)
    with pytest.raises(TokenRefusedError):
        TokenLedger(None).redeem(KEY, token, newcomer(), client=False)


def test_a_token_can_be_shown_again_as_long_as_it_is_open() -> None:
    ledger = TokenLedger(None)
    token = ledger.issue(KEY, WHO, HERE, lifetime_s=60)
    text = ledger.token_text(token.token_id, KEY, HERE)
    assert text == token.encode()
    assert is_genuine(KEY, InviteToken.decode(text))
    assert ledger.token_text("000000000000", KEY, HERE) is None
    assert ledger.token_text(token.token_id, KEY.rotated(), HERE) is None


@pytest.mark.parametrize("limits", [{"max_uses": 0}, {"max_uses": 999_999}, {"lifetime_s": 0}])
def test_impossible_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a token"):
        TokenLedger(None).issue(KEY, WHO, HERE, **{"lifetime_s": 60, **limits})


def test_a_broken_list_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(b"{broken")
    path.chmod(0o600)
    with pytest.raises(TokenLedgerError, match="move it away"):
        TokenLedger(tmp_path)
    assert path.read_bytes() == b"{broken"


def test_the_udp_port_is_remembered_so_that_tokens_stay_good(tmp_path: Path) -> None:
    first = bind_port.bind(tmp_path, "127.0.0.1")
    first.sock.close()
    again = bind_port.bind(tmp_path, "127.0.0.1")
    assert (again.port, again.moved) == (first.port, False)
    # While it is taken, another one serves, and is said to have moved.
    other = bind_port.bind(tmp_path, "127.0.0.1")
    assert other.port != again.port
    assert other.moved
    again.sock.close()
    other.sock.close()


def test_a_given_port_that_is_taken_is_an_error_that_names_it(tmp_path: Path) -> None:
    taken = bind_port.bind(None, "127.0.0.1")
    with pytest.raises(BindPortError, match=f"UDP port {taken.port} cannot be bound"):
        bind_port.bind(tmp_path, "127.0.0.1", taken.port)
    taken.sock.close()


def test_a_broken_memory_of_the_port_only_costs_the_port(tmp_path: Path) -> None:
    (tmp_path / "quic_port").write_text("not a port")
    (tmp_path / "quic_port").chmod(0o600)
    bound = bind_port.bind(tmp_path)
    assert bound.port > 0
    assert (tmp_path / "quic_port").read_text() == f"{bound.port}\n"
    bound.sock.close()
