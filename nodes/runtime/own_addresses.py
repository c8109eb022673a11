"""Where others can dial this node: the machine's own addresses with the UDP port, best first.

Decides order and number for tokens and announcements. Loopback is named only where there is nothing
else: on another machine it would lead to that machine itself. A name or address behind a port forward
is the operator's to add (`--bind-ip`, or the token's address by hand).
"""

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence

import psutil

from nodes.runtime.address import Address

ADDRESSES_MAX = 6
"""As many as keep a token short; a machine with more interfaces is reached by its first ones."""
_VIRTUAL = ("docker", "br-", "veth", "virbr", "cni", "flannel", "podman", "lxc", "vmnet", "vboxnet")
"""Interfaces of containers and virtual machines: their addresses are the same on every machine."""

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def own_addresses(port: int, bind_host: str | None = None) -> tuple[Address, ...]:
    """Return the addresses to tell others, best first, never empty.

    `bind_host` None: bound to all addresses; else only that one is told.
    """
    if bind_host is not None and not _is_any(bind_host):
        return (Address(bind_host, port),)
    found = psutil.net_if_addrs()
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    return _chosen(
        {
            name: [place.address for place in places if place.family in _FAMILIES]
            for name, places in found.items()
            if name in up
        },
        port,
    )


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def _chosen(interfaces: Mapping[str, Sequence[str]], port: int) -> tuple[Address, ...]:
    real = [
        ip
        for name, texts in interfaces.items()
        if not name.startswith(_VIRTUAL)
        for ip in _parsed(texts)
        if not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
    ]
    ordered = sorted(dict.fromkeys(real), key=lambda ip: (ip.version, not ip.is_private))
    # IPv6 privacy addresses can be many on one interface; two are enough beside IPv4.
    ordered = [ip for ip in ordered if ip.version == 4] + [ip for ip in ordered if ip.version == 6][
        :2
    ]
    addresses = tuple(Address(str(ip), port) for ip in ordered[:ADDRESSES_MAX])
    return addresses or (Address("127.0.0.1", port),)


def _parsed(texts: Iterable[str]) -> list[Ip]:
    found: list[Ip] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_address(text.split("%")[0]))
        except ValueError:
            continue
    return found


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
