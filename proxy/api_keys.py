"""API keys: making them, hashing them, and the ring in memory that the hot path asks.

A key carries 256 random bits, so a fast keyed hash is enough (a slow password hash would only make
every request slow); the key of the hash is the home's secret, so a stolen database alone is worth
nothing. No ORM here: `replace` is called when the rows change.
"""

import hashlib
import secrets
import time
from collections.abc import Mapping

KEY_PREFIX = "mesh-"
SHOWN_PREFIX_CHARS = 12
"""Of a key, what the admin keeps showing: enough to tell keys apart, nothing to guess by."""

KEYS_MAX = 10_000
"""Keys held in the ring; more than that is refused when they are loaded."""


def new_key() -> str:
    """Return a fresh key, 256 random bits in it."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_digest(key: str, secret: str) -> str:
    """Return the 64 hex digits that are kept of `key`: BLAKE2b (RFC 7693) keyed with the home's `secret`."""
    hash_key = hashlib.sha256(secret.encode()).digest()
    return hashlib.blake2b(key.encode(), key=hash_key, digest_size=32).hexdigest()


class KeyRing:
    """The keys that are good now, by digest, each with its expiry in Unix seconds or None."""

    def __init__(self) -> None:
        self._expiry_by_digest: dict[str, float | None] = {}

    def replace(self, expiry_by_digest: Mapping[str, float | None]) -> None:
        """Hold exactly these keys from now on."""
        assert len(expiry_by_digest) <= KEYS_MAX
        self._expiry_by_digest = dict(expiry_by_digest)

    def allows(self, key: str, secret: str) -> bool:
        """Return whether `key` is good now. Costs one hash; a digest is looked up, never compared."""
        if not key.startswith(KEY_PREFIX):
            return False
        digest = key_digest(key, secret)
        if digest not in self._expiry_by_digest:
            return False
        expiry = self._expiry_by_digest[digest]
        return expiry is None or expiry > time.time()

    def __len__(self) -> int:
        return len(self._expiry_by_digest)


key_ring = KeyRing()
"""The ring of this process; `proxy.key_rows.reload_key_ring` fills it."""
