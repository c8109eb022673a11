"""The ring of API keys in memory: what it lets in, and what rows fill it."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections
from django.utils import timezone

from proxy import key_rows
from proxy.api_keys import KEY_PREFIX, KeyRing, key_digest, key_ring, new_key
from proxy.key_rows import reload_key_ring
from proxy.models import ApiKey

SECRET = "a-home-secret"


@pytest.fixture
def database() -> Iterator[None]:
    """Migrate and empty the run's database."""
    call_command("migrate", interactive=False, verbosity=0)
    call_command("flush", interactive=False, verbosity=0)
    yield
    key_ring.replace({})
    connections.close_all()


def _row(name: str, **fields: object) -> str:
    key = new_key()
    ApiKey.objects.create(name=name, digest=key_digest(key, SECRET), **fields)
    return key


def test_keys_are_random_and_long() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith(KEY_PREFIX) and len(key) >= 45 for key in keys)


def test_a_ring_allows_its_keys_alone() -> None:
    ring, key = KeyRing(), new_key()
    assert not ring.allows(key, SECRET)
    ring.replace({key_digest(key, SECRET): None})
    assert ring.allows(key, SECRET)
    for other in (new_key(), key + "x", key[:-1], "", KEY_PREFIX, key.removeprefix(KEY_PREFIX)):
        assert not ring.allows(other, SECRET)
    assert not ring.allows(key, SECRET + "x")


def test_a_key_expires_by_the_clock_with_no_reload() -> None:
    ring, key = KeyRing(), new_key()
    ring.replace({key_digest(key, SECRET): time.time() + 0.1})
    assert ring.allows(key, SECRET)
    time.sleep(0.15)
    assert not ring.allows(key, SECRET)


def test_only_live_rows_fill_the_ring(database: None) -> None:
    now = timezone.now()
    live = _row("live")
    later = _row("later", expires_at=now + timedelta(hours=1))
    expired = _row("expired", expires_at=now - timedelta(seconds=1))
    revoked = _row("revoked", revoked_at=now)
    assert reload_key_ring() == 2
    assert key_ring.allows(live, SECRET)
    assert key_ring.allows(later, SECRET)
    assert not key_ring.allows(expired, SECRET)
    assert not key_ring.allows(revoked, SECRET)


def test_more_keys_than_the_ring_holds_are_left_out(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rows, "KEYS_MAX", 3)
    for number in range(5):
        _row(str(number))
    assert reload_key_ring() == 3


def test_a_database_out_of_reach_leaves_the_ring_as_it_was(
    database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    key = _row("live")
    reload_key_ring()
    connections.close_all()
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", str(tmp_path))
    with pytest.raises(OperationalError):
        reload_key_ring()
    assert key_ring.allows(key, SECRET)
    connections.close_all()
