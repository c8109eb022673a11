"""From ApiKey rows to the ring in memory: at boot, and whenever the admin changes a key."""

from itertools import islice

from django.db.models import Q
from django.utils import timezone

from proxy.api_keys import KEYS_MAX, key_ring
from proxy.models import ApiKey


def reload_key_ring() -> int:
    """Fill the ring with the keys that are neither revoked nor expired; return how many.

    Raises:
        django.db.Error: the database cannot be read; the ring stays as it was.
    """
    live = ApiKey.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=timezone.now()), revoked_at=None
    ).values_list("digest", "expires_at")
    key_ring.replace(
        {digest: at.timestamp() if at else None for digest, at in islice(live, KEYS_MAX)}
    )
    return len(key_ring)
