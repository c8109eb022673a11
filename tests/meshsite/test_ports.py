"""Binding ports: what is taken is said, what may move moves."""

import socket
from collections.abc import Iterator

import pytest

from meshsite.ports import PortError, bind, bind_console, port_of

LOOPBACK = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        holder.listen()
        yield holder.getsockname()[1]


def close(sockets: list[socket.socket]) -> None:
    for bound in sockets:
        bound.close()


def test_taken_port_is_named_with_its_flag(taken: int) -> None:
    with pytest.raises(PortError, match=rf"Port {taken} for the API is taken.*--port PORT"):
        bind(LOOPBACK, taken, what="API", flag="--port")


def test_console_moves_to_the_next_free_port_unless_one_was_given(taken: int) -> None:
    moved = bind_console(LOOPBACK, taken, given=False)
    assert port_of(moved) > taken
    close(moved)
    with pytest.raises(PortError):
        bind_console(LOOPBACK, taken, given=True)


def test_address_of_another_machine_is_refused_in_words() -> None:
    with pytest.raises(PortError, match=r"--host 192\.0\.2\.1 is not an address of this machine"):
        bind("192.0.2.1", 45123, what="API", flag="--port")


def test_unknown_host_name_is_refused_in_words() -> None:
    with pytest.raises(PortError, match="is not an address of this machine"):
        bind("no-such-host.invalid", 45123, what="API", flag="--port")


def test_bound_port_can_be_connected_to_before_anybody_accepts() -> None:
    sockets = bind(LOOPBACK, 0, what="API", flag="--port")
    with socket.create_connection((LOOPBACK, port_of(sockets)), timeout=2):
        pass
    close(sockets)
