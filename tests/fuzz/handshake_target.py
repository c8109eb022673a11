"""A real listener under hostile packets: random ones, changed ones, and handshakes changed before encryption.

No sockets: packets are handed over in memory, so a million of them are minutes. A handshake that is
changed before encryption is a full member's, so what is refused is refused for the change alone.
"""

import asyncio
import random
import time
from typing import Any

from aioquic.quic.connection import QuicConnection

from nodes.runtime import identity, mesh_key
from nodes.runtime.counters import Counted
from nodes.runtime.credentials import Role, certificate_for, issue
from nodes.runtime.transport_settings import TransportSettings, client_configuration
from tests.fuzz.mutate import mutated
from tests.nodes.link_lab import Lab, LabNode

HOSTS = 200
ROUNDS_MAX = 6
_FINISHED_BYTES = 36
"""4 of head, 32 of SHA-256, the hash of both cipher suites that we offer."""
SETTINGS = TransportSettings(
    handshakes_per_s=1e9, handshakes_burst=10**9, handshake_timeout_s=0.5, half_open_max=64
)


class _Capture:
    """Stands for the listener's UDP socket: keeps what it would send."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    def sendto(self, data: bytes, addr: Any = None) -> None:
        self.sent.append((data, addr))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 4433) if name == "sockname" else default

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


class HandshakeTarget:
    """One listening node that must let nobody in."""

    def __init__(self, node: LabNode, key: mesh_key.MeshKey) -> None:
        self.node = node
        self.key = key
        self._other_key = mesh_key.new_mesh()
        self.listener: Any = node.listener
        self.out = _Capture()
        real = self.listener._transport
        self.listener._transport = self.out
        self._real = real
        self.packets = 0

    @classmethod
    async def start(cls, lab: Lab) -> "HandshakeTarget":
        return cls(await lab.node(settings=SETTINGS), lab.key)

    def stop(self) -> None:
        self.listener._transport = self._real

    @property
    def accepted(self) -> int:
        completed = self.node.transport.counters[Counted.HANDSHAKES_COMPLETED]
        return completed + len(self.node.transport.links) + len(self.node.seen.ups)

    def try_one(self, dice: random.Random) -> bool:
        """Send one hostile packet or handshake; return True when somebody got in."""
        addr = (f"127.1.0.{dice.randrange(HOSTS)}", dice.randrange(1024, 65535))
        if dice.random() < 0.4:
            self._packet(_random_packet(dice), addr)
        else:
            self._handshake(dice, addr)
        self.out.sent.clear()
        return self.accepted > 0

    def _packet(self, content: bytes, addr: Any) -> None:
        self.packets += 1
        self.listener.datagram_received(content, addr)

    def _handshake(self, dice: random.Random, addr: Any) -> None:
        in_clear = dice.random() < 0.7
        # A packet changed on its way is dropped or harmless, so there the node itself is a stranger.
        key = self.key if in_clear else self._other_key
        who = identity.ephemeral()
        certificate = certificate_for(who, issue(key, who.node_id, Role.MEMBER, time.time()))
        client = QuicConnection(
            configuration=client_configuration(
                who, certificate, SETTINGS, dice.choice(["mesh/1", "mesh-join/1"])
            )
        )
        if in_clear:
            _spoil_crypto(client, dice)
        now = asyncio.get_running_loop().time()
        client.connect(("127.0.0.1", 4433), now=now)
        spoilt = in_clear
        for _ in range(ROUNDS_MAX):
            sending = client.datagrams_to_send(now=now)
            if not sending:
                break
            for content, _ in sending:
                hit = not in_clear and (not spoilt or dice.random() < 0.3)
                spoilt = spoilt or hit
                self._packet(mutated(content, dice) if hit else content, addr)
            answers, self.out.sent = self.out.sent, []
            for content, to in answers:
                if to == addr:
                    client.receive_datagram(content, ("127.0.0.1", 4433), now=now)
        client.close()
        for content, _ in client.datagrams_to_send(now=now):
            self._packet(content, addr)


def _spoil_crypto(client: QuicConnection, dice: random.Random) -> None:
    """Change the client's hello, or its certificate and proof, before they are encrypted.

    Its last message (Finished, which covers all before it) stays whole: bytes after it mean nothing.
    """
    chosen = dice.randrange(2)
    seen = 0

    def push() -> None:
        nonlocal seen
        for epoch, buffer in client._crypto_buffers.items():
            content = buffer.data
            if content:
                if seen == chosen:
                    kept = _FINISHED_BYTES if seen else 0
                    whole = len(content) - kept
                    content = mutated(content[:whole], dice) + content[whole:]
                seen += 1
            client._crypto_streams[epoch].sender.write(content)
            buffer.seek(0)

    setattr(client, "_push_crypto_data", push)  # noqa: B010 - a method of aioquic


def _random_packet(dice: random.Random) -> bytes:
    content = dice.randbytes(dice.choice([0, 1, 7, 20, 64, 1200, 1252]))
    if content and dice.random() < 0.8:
        # A long header of a known version, so that more than the first check is reached.
        head = bytes([0xC0 | dice.randrange(64)]) + dice.choice(
            [b"\0\0\0\1", b"\0\0\0\0", b"\x1a\x2a\x3a\x4a"]
        )
        content = head + bytes([dice.choice([0, 8, 20, 21, 255])]) + content[6:]
    return content
