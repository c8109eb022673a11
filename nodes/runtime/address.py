"""Where a node can be reached: a host and a UDP port, as one value that can be parsed and shown."""

import ipaddress
from dataclasses import dataclass
from typing import Self

MAX_HOST_CHARS = 253
"""RFC 1035 section 2.3.4, in its textual form."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """One place to dial. `host` is an IPv4 or IPv6 address (no brackets) or a name; `port` 1 to 65535."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not between 1 and 65535")
        if not self.host or len(self.host) > MAX_HOST_CHARS or not _plain(self.host):
            raise ValueError(f"{self.host[:40]!r} is not a host")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address of ``host:port`` or ``[v6]:port``.

        Raises:
            ValueError: `text` is neither.
        """
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
            raise ValueError(f"{text[:60]!r} is not an address: write it as host:port")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text[:60]!r} is not an address: put IPv6 into brackets")
        return cls(host, int(port))

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as a number; None when it is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _plain(host: str) -> bool:
    return host.isascii() and all(c.isalnum() or c in "-._:%" for c in host)
