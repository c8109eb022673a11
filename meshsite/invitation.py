"""Who this node is and how others are invited: its key, its mesh's key and the start-up token."""

import ipaddress
import socket

import psutil

from meshsite.compose import NodeIdentity
from nodes.runtime import identity, mesh_key
from nodes.runtime.address import Address
from nodes.runtime.home import Home
from nodes.runtime.token_ledger import TokenLedger

ADDRESSES_MAX = 6
"""Addresses put into a token: it must stay short enough to paste."""


def open_identity(home: Home, quic_port: int) -> NodeIdentity:
    """Return the node's identity in its home; made at the first start.

    Raises:
        IdentityError, MeshKeyError, TokenLedgerError: a file of it cannot be used; the text says why.
    """
    own = identity.ephemeral() if home.ephemeral else identity.load_or_create(home.path)
    key = mesh_key.new_mesh() if home.ephemeral else mesh_key.load_or_create(home.path)
    ledger = TokenLedger(None if home.ephemeral else home.path)

    def invite_token() -> str:
        return ledger.start_up_token(key, own.node_id, reachable_addresses(quic_port)).encode()

    return NodeIdentity(own.node_id, str(key.mesh_id), invite_token)


def reachable_addresses(port: int) -> tuple[Address, ...]:
    """Return where other machines may reach this one: private and public addresses before loopback."""
    hosts: list[str] = []
    for addresses in psutil.net_if_addrs().values():
        for found in addresses:
            if found.family in (socket.AF_INET, socket.AF_INET6):
                hosts.append(found.address)
    usable = [h for h in hosts if _usable(h)][: ADDRESSES_MAX - 1]
    return tuple(Address(host, port) for host in [*usable, "127.0.0.1"])


def _usable(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # a scoped fe80::...%eth0: of no use on another machine
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)
