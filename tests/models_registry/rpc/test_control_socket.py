"""Messages and sockets between the node and its lane process: in order, whole, bounded."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from models_registry.rpc import control_socket
from models_registry.rpc.control_socket import ControlSocket
from tests.nodes.link_lab import until


@dataclass
class End:
    """One end, with what it heard."""

    heard: list[bytes] = field(default_factory=list)
    carried: list[socket.socket] = field(default_factory=list)
    closed: int = 0
    control: ControlSocket | None = None

    def hear(self, message: bytes) -> None:
        self.heard.append(message)
        if message.startswith(b"with a socket"):
            assert self.control is not None
            self.carried.append(self.control.take_socket())

    def ended(self) -> None:
        self.closed += 1


@contextlib.contextmanager
def ends(max_bytes: int = 1 << 20) -> Iterator[tuple[End, End]]:
    made = End(), End()
    for end, sock in zip(made, socket.socketpair(), strict=True):
        end.control = ControlSocket(sock, max_bytes, end.hear, end.ended)
    try:
        yield made
    finally:
        for end in made:
            assert end.control is not None
            end.control.close()
            for one in end.carried:
                one.close()


async def test_messages_of_all_sizes_come_whole_and_in_order() -> None:
    with ends() as (one, two):
        sent = [os.urandom(size) for size in (0, 1, 5, 70_000, 3, 1 << 20, 2)]
        for message in sent:
            assert one.control
            one.control.send(message)
        await until(lambda: len(two.heard) == len(sent))
        assert two.heard == sent


async def test_sockets_come_with_their_messages() -> None:
    with ends() as (one, two):
        assert one.control
        pairs = [socket.socketpair() for _ in range(40)]
        for number, (ours, theirs) in enumerate(pairs):
            one.control.send(b"before" * (number * 50))
            one.control.send(b"with a socket %d" % number, theirs)
            theirs.close()
            ours.sendall(b"%d" % number)
        await until(lambda: len(two.carried) == 40)
        for number, came in enumerate(two.carried):
            assert came.recv(10) == b"%d" % number
        for ours, _ in pairs:
            ours.close()


async def test_the_end_of_one_side_is_told_to_the_other_once() -> None:
    with ends() as (one, two):
        assert one.control
        one.control.send(b"last words")
        one.control.close()
        await until(lambda: two.closed)
        assert two.heard == [b"last words"]
        assert (one.closed, two.closed) == (1, 1)
        assert two.control
        two.control.send(b"into the void")
        assert two.closed == 1


async def test_a_side_that_does_not_read_is_given_up_and_holds_no_sockets() -> None:
    with ends() as (one, two):
        assert one.control
        assert two.control
        asyncio.get_running_loop().remove_reader(two.control._sock.fileno())
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, of Linux's own list
        kept = socket.socketpair()
        for _ in range(100):
            one.control.send(bytes(1 << 20), kept[0])
            if one.control.closed:
                break
        assert one.closed == 1
        assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208
        for sock in kept:
            sock.close()


async def test_a_message_over_the_limit_ends_the_connection() -> None:
    with ends(max_bytes=100) as (one, two):
        assert one.control
        one.control._sock.send((101).to_bytes(4) + bytes(101))
        await until(lambda: two.closed)
        assert not two.heard
        assert control_socket.WAITING_MAX_BYTES > 100
