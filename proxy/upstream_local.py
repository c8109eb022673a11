"""The pool of connections to the engines of this machine.

Decides which connection carries a request: the youngest idle one, else a new one. An idle one that
turns out dead before any byte of the answer is replaced by a new one, once, unseen by the client.
One coarse sweep closes idle connections before the engine does, and ends silent exchanges.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from functools import partial

from nodes.mesh.routing import Upstream
from proxy.config import ApiConfig
from proxy.upstream import Answer, OutboundRequest, UpstreamError, UpstreamTrouble
from proxy.upstream_connection import UpstreamConnection

Address = tuple[str, int]


@dataclass(eq=False)
class _Pool:
    """Connections to one address."""

    idle: deque[tuple[float, UpstreamConnection]] = field(default_factory=deque)
    """(loop time at which it became idle, connection), oldest first."""
    open: set[UpstreamConnection] = field(default_factory=set)
    connecting: int = 0


class LocalUpstreams:
    """An `UpstreamClient` for engines that listen on this machine."""

    def __init__(self, config: ApiConfig) -> None:
        self._config = config
        self._pools: dict[Address, _Pool] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._spares: set[asyncio.Task[None]] = set()

    async def open(self, upstream: Upstream, request: OutboundRequest) -> Answer:
        """Return the answer once its headers are there. Raises UpstreamError."""
        if upstream.host is None or upstream.port is None:
            raise UpstreamError(UpstreamTrouble.UNREACHABLE)
        address = (upstream.host, upstream.port)
        connection = self._idle_connection(address)
        if connection is not None:
            try:
                return await self._exchange(connection, address, request)
            except UpstreamError as error:
                if error.trouble is not UpstreamTrouble.DIED or connection.got_bytes:
                    raise
        return await self._exchange(await self._connect(address), address, request)

    def close(self) -> None:
        """Close every connection, busy ones too."""
        for pool in self._pools.values():
            for connection in tuple(pool.open):
                connection.fail(UpstreamError(UpstreamTrouble.DIED))
        self._pools.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def open_connections(self) -> int:
        """Return how many connections are open, idle ones included."""
        return sum(len(pool.open) for pool in self._pools.values())

    async def _exchange(
        self, connection: UpstreamConnection, address: Address, request: OutboundRequest
    ) -> Answer:
        host = f"{address[0]}:{address[1]}".encode("ascii")
        config = self._config
        first_byte_s = config.first_byte_deadline_s
        if request.first_byte_s is not None:
            first_byte_s = min(first_byte_s, request.first_byte_s)
        try:
            await connection.begin(request, host, first_byte_s, config.upstream_idle_deadline_s)
        except BaseException:  # cancelled: the slot must be freed at once
            connection.abort()
            raise
        if not connection.sized:
            self._keep_spare(address)
        return connection

    def _keep_spare(self, address: Address) -> None:
        """Have one connection ready while a stream runs: the engine closes that one at its end.

        The next request then does not wait for a connect. At most one a pool, swept like any idle one.
        """
        pool = self._pools.get(address)
        if pool is None or pool.idle or pool.connecting:
            return
        task = asyncio.get_running_loop().create_task(self._open_spare(address))
        self._spares.add(task)
        task.add_done_callback(self._spares.discard)

    async def _open_spare(self, address: Address) -> None:
        # Without a spare the next request connects by itself, and tells of what is wrong.
        with contextlib.suppress(UpstreamError):
            self._release(address, await self._connect(address))

    def _idle_connection(self, address: Address) -> UpstreamConnection | None:
        pool = self._pools.get(address)
        if pool is None:
            return None
        oldest = asyncio.get_running_loop().time() - self._config.upstream_keep_alive_s
        while pool.idle:
            since, connection = pool.idle.pop()
            if not connection.closed and since > oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self, address: Address) -> UpstreamConnection:
        pool = self._pools.setdefault(address, _Pool())
        if len(pool.open) + pool.connecting >= self._config.upstream_connections_limit:
            raise UpstreamError(UpstreamTrouble.BUSY)
        self._arm_sweep()
        loop = asyncio.get_running_loop()
        release = partial(self._release, address)
        pool.connecting += 1
        try:
            async with asyncio.timeout(self._config.connect_deadline_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(release, pool.open.discard), *address
                )
        except TimeoutError:
            raise UpstreamError(UpstreamTrouble.SLOW) from None
        except OSError:
            raise UpstreamError(UpstreamTrouble.UNREACHABLE) from None
        finally:
            pool.connecting -= 1
        pool.open.add(connection)
        return connection

    def _release(self, address: Address, connection: UpstreamConnection) -> None:
        pool = self._pools.get(address)
        if pool is None or len(pool.idle) >= self._config.upstream_idle_limit:
            connection.abort()
            return
        pool.idle.append((asyncio.get_running_loop().time(), connection))

    def _arm_sweep(self) -> None:
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._config.sweep_interval_s, self._on_sweep)

    def _on_sweep(self) -> None:
        self._sweep = None
        now = asyncio.get_running_loop().time()
        for address, pool in tuple(self._pools.items()):
            self._sweep_pool(pool, now)
            if not pool.open and not pool.connecting:
                del self._pools[address]
        if self._pools:
            self._arm_sweep()

    def _sweep_pool(self, pool: _Pool, now: float) -> None:
        oldest = now - self._config.upstream_keep_alive_s
        while pool.idle and (pool.idle[0][0] <= oldest or pool.idle[0][1].closed):
            pool.idle.popleft()[1].abort()
        for connection in tuple(pool.open):
            if connection.deadline is not None and connection.deadline < now:
                connection.fail(UpstreamError(UpstreamTrouble.SLOW))
