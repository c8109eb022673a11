"""Dialling peers: one dial a peer at a time, several addresses at once, greeted before it counts.

Decides what is asked of whoever answers (`expected`, this mesh, a full member). What a new connection
means for the link to its peer is for `link_table`.
"""

import asyncio
from collections.abc import Callable, Sequence

from aioquic.quic.connection import QuicConnection

from nodes.mesh.ids import NodeId
from nodes.runtime import dialer, greeting
from nodes.runtime.address import Address
from nodes.runtime.connection import CLOSE_NORMAL, CLOSE_REFUSED, ConnectionOwner, PeerConnection
from nodes.runtime.counters import Counted, Counters
from nodes.runtime.credentials import Credential, CredentialError, Role
from nodes.runtime.dial_errors import TIMED_OUT, AttemptError, DialError
from nodes.runtime.greeting import GreetingError, Hello
from nodes.runtime.link import Link
from nodes.runtime.transport_settings import ALPN_MESH, TransportSettings, client_configuration
from nodes.runtime.trust import Trust


class Outbound:
    """The dials under way."""

    def __init__(
        self,
        trust: Trust,
        owner: ConnectionOwner,
        settings: TransportSettings,
        counters: Counters,
        make_hello: Callable[[bool], Hello],
        register: Callable[[PeerConnection, Hello, bool], Link],
        met_own_id: Callable[[PeerConnection, Hello], str],
    ) -> None:
        self._trust = trust
        self._owner = owner
        self._settings = settings
        self._counters = counters
        self._make_hello = make_hello
        """Makes this side's greeting; True: for a further connection."""
        self._register = register
        self._met_own_id = met_own_id
        """Judges a connection whose other end has this node's own key; returns the word for it."""
        self._proving: dict[PeerConnection, asyncio.Future[None]] = {}
        self._dials: dict[NodeId, asyncio.Task[Link]] = {}
        self._under_way = 0

    @property
    def under_way(self) -> int:
        """Dials that have not come to an end."""
        return self._under_way

    async def dial(
        self, addresses: Sequence[Address], expected: NodeId | None, timeout_s: float | None
    ) -> Link:
        """Return the link after dialling; a dial to the same peer that is under way is shared.

        Raises:
            DialError: no address led there.
        """
        if expected is None:
            return await self._dial(addresses, None, timeout_s, extra=False)
        task = self._dials.get(expected)
        if task is None:
            task = asyncio.ensure_future(self._dial(addresses, expected, timeout_s, extra=False))
            self._dials[expected] = task
            task.add_done_callback(lambda _: self._dials.pop(expected, None))
            # A failure after the last waiter has gone is nobody's.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # One waiter that gives up must not end the dial of the others.
        return await asyncio.shield(task)

    async def dial_more(self, link: Link) -> None:
        """Add a connection to a link whose connections are full; does nothing at the bound.

        Raises:
            DialError: the peer could not be reached another time.
        """
        usable = [s for s in link.strands if s.connection.is_open]
        if len(usable) >= self._settings.connections_per_link_max or link.primary is None:
            return
        primary = link.primary.connection
        place = primary.remote_address if primary.dialled else None
        address = Address(*place) if place else link.listen_address()
        if address is not None:
            await self._dial([address], link.peer_id, None, extra=True)

    def proven(self, connection: PeerConnection) -> None:
        """A dialled connection is proven."""
        waiting = self._proving.pop(connection, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def ended(self, connection: PeerConnection, reason: str) -> None:
        """A connection has ended, perhaps one that was being dialled."""
        waiting = self._proving.pop(connection, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(AttemptError(_code_of(reason)))

    async def close(self) -> None:
        """Give up all dials."""
        tasks = tuple(self._dials.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dial(
        self,
        addresses: Sequence[Address],
        expected: NodeId | None,
        timeout_s: float | None,
        *,
        extra: bool,
    ) -> Link:
        self._counters.add(Counted.DIALS)
        limit_s = self._settings.dial_timeout_s if timeout_s is None else timeout_s
        configuration = client_configuration(
            self._trust.identity, self._trust.certificate(), self._settings, ALPN_MESH
        )
        hellos: dict[PeerConnection, Hello] = {}

        async def attempt(address: Address) -> PeerConnection:
            connection = await dialer.connect(
                address, configuration, lambda quic: self._dialling(quic, expected)
            )
            hellos[connection] = await self._greet(connection, extra=extra)
            return connection

        self._under_way += 1
        try:
            places = await dialer.resolved(addresses)
            connection = await dialer.dial_any(
                places, attempt, self._settings.dial_stagger_s, limit_s
            )
        except DialError:
            self._counters.add(Counted.DIALS_FAILED)
            raise
        finally:
            self._under_way -= 1
        return self._register(connection, hellos[connection], extra)

    def _dialling(
        self, quic: QuicConnection, expected: NodeId | None
    ) -> tuple[PeerConnection, "asyncio.Future[None]"]:
        def admission(node_id: NodeId, credential: Credential | None, alpn: str) -> None:
            if expected is not None and node_id != expected:
                raise CredentialError("wrong_node")
            if self._trust.admit(node_id, credential).role is not Role.MEMBER:
                raise CredentialError("not_a_member")

        connection = PeerConnection(quic, self._owner, admission, self._settings, self._counters)
        proven = asyncio.get_running_loop().create_future()
        self._proving[connection] = proven
        return connection, proven

    async def _greet(self, connection: PeerConnection, *, extra: bool) -> Hello:
        try:
            theirs = await greeting.greet(
                connection.open_stream(greeting.HELLO_KIND),
                self._make_hello(extra),
                self._settings.handshake_timeout_s,
            )
            if connection.peer_id == self._trust.node_id:
                raise GreetingError(self._met_own_id(connection, theirs))
            return theirs
        except GreetingError as error:
            reason = connection.end_reason
            connection.end(CLOSE_REFUSED, str(error))
            raise AttemptError(reason or str(error)) from error
        except asyncio.CancelledError:
            connection.end(CLOSE_NORMAL, "another address was faster")
            raise


def _code_of(reason: str) -> str:
    """Return the word for a failed attempt from the reason its connection ended with."""
    return TIMED_OUT if reason in ("no answer in time", "Idle timeout") else reason
