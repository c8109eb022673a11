"""The addresses inside an invite token, as few bytes as they need. Pure."""

import ipaddress
from collections.abc import Iterable

from nodes.runtime.address import Address

MAX_ADDRESSES = 16
_V4, _V6, _NAME = 4, 6, 0
_LENGTH = {_V4: 4, _V6: 16}


def pack_addresses(addresses: Iterable[Address]) -> bytes:
    """Return the addresses as bytes, in their order.

    Raises:
        ValueError: more than `MAX_ADDRESSES`, or a name that is too long.
    """
    items = tuple(addresses)
    if len(items) > MAX_ADDRESSES:
        raise ValueError(f"an invite token takes at most {MAX_ADDRESSES} addresses")
    return bytes([len(items)]) + b"".join(_pack(item) for item in items)


def _pack(address: Address) -> bytes:
    ip = address.ip
    port = address.port.to_bytes(2)
    if ip is not None and "%" not in address.host:
        return bytes([ip.version]) + ip.packed + port
    name = address.host.encode("ascii")
    return bytes([_NAME, len(name)]) + name + port


def unpack_addresses(content: bytes) -> tuple[Address, ...]:
    """Return the addresses that `content` holds, all of it.

    Raises:
        ValueError: it is not what `pack_addresses` writes.
    """
    if not content or content[0] > MAX_ADDRESSES:
        raise ValueError("too many addresses")
    found: list[Address] = []
    at = 1
    for _ in range(content[0]):
        address, at = _unpack(content, at)
        found.append(address)
    if at != len(content):
        raise ValueError("bytes left over")
    return tuple(found)


def _unpack(content: bytes, at: int) -> tuple[Address, int]:
    kind = _byte(content, at)
    at += 1
    if kind == _NAME:
        length = _byte(content, at)
        at += 1
        host = content[at : at + length].decode("ascii")
    elif kind in _LENGTH:
        length = _LENGTH[kind]
        host = str(ipaddress.ip_address(content[at : at + length]))
    else:
        raise ValueError("unknown kind of address")
    end = at + length + 2
    if end > len(content):
        raise ValueError("an address is cut off")
    return Address(host, int.from_bytes(content[end - 2 : end])), end


def _byte(content: bytes, at: int) -> int:
    if at >= len(content):
        raise ValueError("an address is cut off")
    return content[at]
