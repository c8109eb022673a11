"""A dropped model stays dropped everywhere until a newer word lifts it; only members can say either."""

import hashlib

import msgspec
import pytest

from nodes.mesh import limits
from nodes.mesh.ids import ModelName
from nodes.mesh.records import NodeIdentity, id_of_key
from nodes.mesh.tombstones import TOMBSTONES_MAX, Tombstones, accept_drop, drop_notice, model_of

MODEL = ModelName("GLM-4.7-Flash-Q4_K_M")


def _sign(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, key=key, digest_size=64).digest()


def identity(name: str = "box-1", credential: bytes = b"member" * 26) -> NodeIdentity:
    key = hashlib.sha256(name.encode()).digest()
    return NodeIdentity(
        public_key=key,
        credential=credential,
        boot=b"boot0000",
        sign=lambda content: _sign(key, content),
        verify=lambda key, content, signature: _sign(key, content) == signature,
        accept_member=lambda node, key, shown: shown.startswith(b"member"),
        accept_notice=lambda topic, version, body: False,
    )


def test_members_drop_is_accepted_by_others_and_fits_a_notice() -> None:
    notice = drop_notice(identity(), MODEL, 1_790_000_000_000, True, 1_790_000_000)
    assert accept_drop(identity("box-2"), notice.topic, notice.version, notice.body)
    assert len(notice.body) <= limits.NOTICE_BYTES_MAX
    longest = drop_notice(identity(), ModelName("x" * limits.NAME_CHARS_MAX), 1, True, 0)
    assert len(longest.topic) <= limits.TOPIC_CHARS_MAX


def test_stranger_forged_version_model_or_verb_is_refused() -> None:
    judge = identity("box-2")
    stranger = drop_notice(identity("evil", b"nobody"), MODEL, 5, True, 0)
    assert not accept_drop(judge, stranger.topic, 5, stranger.body)
    good = drop_notice(identity(), MODEL, 5, True, 0)
    assert not accept_drop(judge, good.topic, 6, good.body)
    assert not accept_drop(judge, "drop/Other", 5, good.body)
    assert not accept_drop(judge, "load/" + MODEL, 5, good.body)
    lifted = msgspec.msgpack.encode([*msgspec.msgpack.decode(good.body)[:2], False,
                                     msgspec.msgpack.decode(good.body)[3]])  # fmt: skip
    assert not accept_drop(judge, good.topic, 5, lifted)


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x94\x01\x02\x03\x04", b"x" * 512, b"\x90"])
def test_broken_bodies_are_refused(body: bytes) -> None:
    assert not accept_drop(identity(), f"drop/{MODEL}", 1, body)
    assert Tombstones().take(f"drop/{MODEL}", 1, body) is None


def take(held: Tombstones, model: str, version: int, dropped: bool) -> ModelName | None:
    notice = drop_notice(identity(), ModelName(model), version, dropped, 0)
    return held.take(notice.topic, notice.version, notice.body)


def test_newest_word_wins_in_whatever_order_they_arrive() -> None:
    for order in ([1, 2, 3], [3, 1, 2], [2, 3, 1], [3, 2, 1]):
        held = Tombstones()
        for version in order:
            take(held, "A", version, dropped=version != 2)
        assert held.is_dropped(ModelName("A"))
    take(held, "A", 4, dropped=False)
    assert not held.is_dropped(ModelName("A"))
    assert held.dropped == frozenset()


def test_only_a_change_of_standing_is_reported() -> None:
    held = Tombstones()
    assert take(held, "A", 1, dropped=False) is None
    assert take(held, "A", 2, dropped=True) == "A"
    assert take(held, "A", 3, dropped=True) is None
    assert take(held, "A", 3, dropped=False) is None
    assert take(held, "A", 4, dropped=False) == "A"
    word = held.word(ModelName("A"))
    assert word is not None
    assert word.issuer == id_of_key(identity().public_key)


def test_next_version_outranks_a_word_of_a_clock_that_is_ahead() -> None:
    held = Tombstones()
    assert held.next_version(MODEL, 1000) == 1000
    take(held, MODEL, 5000, dropped=True)
    assert held.next_version(MODEL, 1000) == 5001
    assert held.next_version(MODEL, 9000) == 9000


def test_register_is_bounded_and_forgets_lifted_words_first() -> None:
    held = Tombstones()
    take(held, "kept", 1, dropped=True)
    for number in range(TOMBSTONES_MAX + 50):
        take(held, f"m{number}", 100 + number, dropped=False)
    assert held.is_dropped(ModelName("kept"))
    assert held.word(ModelName("m0")) is None
    assert held.word(ModelName(f"m{TOMBSTONES_MAX + 49}")) is not None


def test_topics_of_other_kinds_are_no_drops() -> None:
    assert model_of("revoke/abc") is None
    assert model_of("drop/") is None
    assert model_of("drop/a/b") == "a/b"
