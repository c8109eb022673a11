"""A UDP relay in this process that can lose, delay and silence packets: the network's faults for tests.

Each source address gets its own upstream socket, so the target sees them apart. Seeded.
"""

import asyncio
import random
from typing import Any

SOURCES_MAX = 64


class _Upstream(asyncio.DatagramProtocol):
    def __init__(self, relay: "UdpRelay", source: Any) -> None:
        self.relay = relay
        self.source = source

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.relay.pass_on(lambda: self.relay.to_source(data, self.source))

    def error_received(self, exc: Exception) -> None:
        """A refused port behind the relay stays unseen, as behind a router that filters."""


class UdpRelay(asyncio.DatagramProtocol):
    """Listens on `port` and forwards to `target`. Change the faults at any time."""

    def __init__(self, target: tuple[str, int], seed: int = 1) -> None:
        self.target = target
        self.loss = 0.0
        """0 to 1, each packet by itself, both ways."""
        self.delay_s = 0.0
        self.silent = False
        """True: nothing passes, as when the power goes."""
        self.passed = 0
        self.dropped = 0
        self._random = random.Random(seed)
        self._transport: asyncio.DatagramTransport | None = None
        self._upstreams: dict[Any, asyncio.DatagramTransport] = {}
        self._opening: set[Any] = set()

    @classmethod
    async def start(cls, target: tuple[str, int], seed: int = 1) -> "UdpRelay":
        relay = cls(target, seed)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: relay, local_addr=("127.0.0.1", 0))
        return relay

    @property
    def port(self) -> int:
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.pass_on(lambda: self._to_target(data, addr))

    def pass_on(self, deliver: Any) -> None:
        """Deliver now, later or never."""
        if self.silent or self._random.random() < self.loss:
            self.dropped += 1
            return
        self.passed += 1
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, deliver)
        else:
            deliver()

    def to_source(self, data: bytes, source: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, source)

    def _to_target(self, data: bytes, source: Any) -> None:
        upstream = self._upstreams.get(source)
        if upstream is not None:
            if not upstream.is_closing():
                upstream.sendto(data)
        elif source not in self._opening and len(self._upstreams) < SOURCES_MAX:
            self._opening.add(source)
            self._task = asyncio.ensure_future(self._open(data, source))

    async def _open(self, data: bytes, source: Any) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Upstream(self, source), remote_addr=self.target
        )
        self._upstreams[source] = transport
        transport.sendto(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        for upstream in self._upstreams.values():
            upstream.close()
