"""How often one source address may ask: token buckets, bounded in number. Pure."""

from collections import OrderedDict


class AddressLimits:
    """One bucket for each address; the one unseen longest is forgotten first."""

    def __init__(self, per_s: float, burst: int, addresses_max: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._addresses_max = addresses_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Address -> (tokens left, time of that), oldest use first."""

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, address: str, now_s: float) -> bool:
        """Return whether `address` may ask now, and count it when it may."""
        key = _group(address)
        tokens, then_s = self._buckets.pop(key, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - then_s) * self._per_s)
        allowed = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if allowed else tokens, now_s)
        if len(self._buckets) > self._addresses_max:
            self._buckets.popitem(last=False)
        return allowed


def _group(address: str) -> str:
    """Return what is limited together: an IPv4 address, or an IPv6 /64 (one site has 2**64 addresses)."""
    if address.startswith("::ffff:"):
        return address[7:]
    if ":" not in address:
        return address
    return ":".join(address.split("%")[0].split(":")[:4])
