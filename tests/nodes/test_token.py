"""Invite tokens as text: short, whole or told why not; and where they are read from."""

import io
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.runtime import identity, mesh_key
from nodes.runtime.address import Address
from nodes.runtime.join_sources import JoinSourceError, read_join_sources
from nodes.runtime.mesh_key import MeshKey, fingerprint
from nodes.runtime.token import InviteToken, is_genuine, secret_for
from nodes.runtime.token_errors import (
    OwnTokenError,
    TokenError,
    TokenExpiredError,
    TokenMangledError,
    TokenNotRecognisedError,
    TokenTruncatedError,
    TokenVersionError,
)

KEY = mesh_key.new_mesh()
WHO = identity.ephemeral()
ADDRESSES = (Address("192.168.1.20", 40123), Address("2001:db8::7", 40123), Address("box.lan", 7))


def make(key: MeshKey = KEY, **changes: Any) -> InviteToken:
    token = InviteToken(
        mesh_id=key.mesh_id,
        epoch=key.epoch,
        key_fingerprint=fingerprint(key.public_key),
        issuer=WHO.node_id,
        token_id="0123456789ab",
        expires_s=2_000_000_000,
        max_uses=3,
        secret=b"",
        addresses=ADDRESSES,
    )
    token = replace(token, **changes)
    return replace(token, secret=secret_for(key, token))


def test_a_token_comes_back_as_it_was_and_is_genuine() -> None:
    for token in (make(), make(max_uses=None), make(clients_only=True), make(addresses=())):
        again = InviteToken.decode(token.encode())
        assert again == token
        assert is_genuine(KEY, again)
        assert not is_genuine(mesh_key.new_mesh(), again)


def test_a_token_of_a_later_epoch_carries_that_keys_fingerprint() -> None:
    later = KEY.rotated()
    token = InviteToken.decode(make(later).encode())
    assert token.key_fingerprint == fingerprint(later.public_key) != token.mesh_id
    assert is_genuine(later, token)


def test_a_token_with_two_addresses_is_short_enough_to_paste() -> None:
    text = make(addresses=ADDRESSES[:2]).encode()
    assert text.startswith("mesh1-")
    assert len(text) <= 170
    assert text.split() == [text]


@pytest.mark.parametrize("dress", ["  {}\n", '"{}"', "'{}'", "`{}`", "<{}>", "{},"])
def test_what_surrounds_a_pasted_token_does_not_matter(dress: str) -> None:
    assert InviteToken.decode(dress.format(make().encode())) == make()


def test_a_token_broken_over_lines_is_whole() -> None:
    text = make().encode()
    wrapped = "\n".join(text[i : i + 40] for i in range(0, len(text), 40))
    assert InviteToken.decode(wrapped) == make()


def test_every_single_changed_letter_is_noticed() -> None:
    text = make().encode()
    for at in range(len("mesh1-"), len(text)):
        other = "A" if text[at] != "A" else "B"
        with pytest.raises(TokenError) as caught:
            InviteToken.decode(text[:at] + other + text[at + 1 :])
        assert isinstance(caught.value, TokenMangledError | TokenTruncatedError)


def test_every_cut_off_end_is_told_as_cut_off() -> None:
    text = make().encode()
    for length in range(len("mesh1-"), len(text)):
        with pytest.raises(TokenTruncatedError, match="cut off"):
            InviteToken.decode(text[:length])


def test_two_letters_swapped_are_noticed() -> None:
    text = make().encode()
    for at in range(6, len(text) - 1):
        if text[at] != text[at + 1]:
            swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
            with pytest.raises(TokenError):
                InviteToken.decode(swapped)


@pytest.mark.parametrize(
    "text", ["", "hello", "sk-123", "MESH1-abc", "mesh-abc", "\0", "x" * 100_000]
)
def test_what_is_no_token_is_told_so(text: str) -> None:
    with pytest.raises(TokenNotRecognisedError, match="begin with mesh1-"):
        InviteToken.decode(text)


def test_a_token_of_a_later_software_is_told_so() -> None:
    with pytest.raises(TokenVersionError, match="update mesh-llm"):
        InviteToken.decode(make().encode().replace("mesh1-", "mesh2-"))


@pytest.mark.parametrize("tail", ["ä", "!", "=" * 3 + "A", "A" * 5000])
def test_strange_letters_or_a_long_tail_are_mangled(tail: str) -> None:
    with pytest.raises(TokenMangledError):
        InviteToken.decode(make().encode() + tail)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda b: "mesh1-" + b.hex()))
def test_no_text_at_all_raises_anything_but_a_token_error(text: str) -> None:
    with pytest.raises(TokenError):
        InviteToken.decode(text)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            Address,
            st.ip_addresses().map(str)
            | st.from_regex(r"[a-z]{1,10}(\.[a-z]{1,5})?", fullmatch=True),
            st.integers(1, 65535),
        ),
        max_size=16,
    ),
    st.none() | st.integers(1, 200),
)
def test_any_addresses_and_uses_come_back(addresses: list[Address], uses: int | None) -> None:
    token = make(addresses=tuple(addresses), max_uses=uses)
    assert InviteToken.decode(token.encode()) == token


def test_more_addresses_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        make(addresses=ADDRESSES * 6).encode()
    with pytest.raises(ValueError, match="too long"):
        make(addresses=(Address("x" * 250, 1),) * 16).encode()


def test_ones_own_and_an_expired_token_are_told_apart() -> None:
    token = make()
    with pytest.raises(OwnTokenError, match="this very node"):
        token.check(WHO.node_id, 0)
    with pytest.raises(TokenExpiredError, match="expired on 2033-05-18 03:33 UTC"):
        token.check(identity.ephemeral().node_id, 2_000_000_000)
    token.check(identity.ephemeral().node_id, 1_999_999_999)


def test_neither_repr_nor_errors_show_the_secret() -> None:
    token = make()
    assert token.secret.hex() not in repr(token)
    assert "secret" not in repr(token)
    text = token.encode()
    with pytest.raises(TokenError) as caught:
        InviteToken.decode(text[:-3] + "AAA")
    assert text[6:30] not in str(caught.value)


def test_tokens_are_read_from_all_sources_in_order_and_once(tmp_path: Path) -> None:
    tokens = [make(token_id=f"{n:012x}") for n in range(4)]
    texts = [token.encode() for token in tokens]
    file = tmp_path / "tokens"
    file.write_text(f"# from the office\n{texts[1]}\n\n{texts[0]}\n")
    found = read_join_sources([texts[0], "-"], [file], texts[3], io.StringIO(texts[2] + "\n"))
    assert [item.token.token_id for item in found] == [tokens[n].token_id for n in (0, 2, 1, 3)]
    assert [item.source for item in found] == [
        "--join",
        "standard input",
        f"--join-file {file}",
        "MESH_LLM_JOIN",
    ]


def test_a_token_wrapped_by_a_mail_program_is_one_token(tmp_path: Path) -> None:
    text = make().encode()
    file = tmp_path / "t"
    file.write_text(text[:76] + "\n" + text[76:] + "\n")
    assert read_join_sources(files=[file])[0].token == make()


def test_no_source_is_no_token() -> None:
    assert read_join_sources() == ()
    assert read_join_sources(environment="  ") == ()


def test_each_faulty_source_is_named_without_its_content(tmp_path: Path) -> None:
    bad = make().encode()[:-5]
    empty = tmp_path / "empty"
    empty.write_text("\n")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\0")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"arguments": [bad]}, "--join: the invite token is cut off"),
        ({"environment": "x"}, "MESH_LLM_JOIN: this is not an invite token"),
        ({"arguments": ["-"]}, "standard input, and there is none"),
        ({"arguments": ["-"], "stdin": io.StringIO("")}, "standard input holds no invite token"),
        ({"files": [tmp_path / "none"]}, "cannot be read"),
        ({"files": [tmp_path]}, "is not a file"),
        ({"files": [empty]}, "holds no invite token"),
        ({"files": [binary]}, "is not a text file"),
    ]
    for sources, message in cases:
        with pytest.raises(JoinSourceError, match=message) as caught:
            read_join_sources(**sources)
        assert bad[6:30] not in str(caught.value)


def test_random_bytes_in_a_tokens_place_never_pass() -> None:
    dice = random.Random(5)
    good = make().encode()
    for _ in range(2000):
        at = dice.randrange(6, len(good))
        junk = os.urandom(6).hex()
        text = good[:at] + junk + good[at + dice.randrange(0, 12) :]
        if text != good:
            with pytest.raises(TokenError):
                InviteToken.decode(text)
