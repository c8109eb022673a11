"""Which addresses a node tells others."""

from nodes.runtime.address import Address
from nodes.runtime.own_addresses import ADDRESSES_MAX, _chosen, own_addresses


def hosts(interfaces: dict[str, list[str]]) -> list[str]:
    return [address.host for address in _chosen(interfaces, 7)]


def test_lan_addresses_come_before_public_and_ipv4_before_ipv6() -> None:
    interfaces = {
        "eth0": ["8.8.4.4", "2a01::1", "fe80::1%eth0"],
        "wlan0": ["192.168.1.5", "fd00::7"],
        "lo": ["127.0.0.1", "::1"],
    }
    assert hosts(interfaces)[0] == "192.168.1.5"
    assert hosts(interfaces)[-2:] == ["fd00::7", "2a01::1"]
    assert "fe80::1" not in hosts(interfaces)


def test_container_networks_are_left_out_and_loopback_is_the_last_resort() -> None:
    assert hosts({"docker0": ["172.17.0.1"], "lo": ["127.0.0.1"]}) == ["127.0.0.1"]
    assert hosts({}) == ["127.0.0.1"]


def test_they_are_bounded_and_told_once() -> None:
    many = {f"eth{n}": [f"10.0.{n}.1", "10.0.0.1"] for n in range(20)}
    found = hosts(many)
    assert len(found) == ADDRESSES_MAX
    assert len(set(found)) == len(found)


def test_a_given_address_is_the_only_one() -> None:
    assert own_addresses(5, "10.1.2.3") == (Address("10.1.2.3", 5),)
    assert own_addresses(5, "0.0.0.0")
    assert own_addresses(5)
