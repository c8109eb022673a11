"""Between the membership core and the transport: effects become dials and sends, what comes becomes events.

Decides nothing about members. Only links of full members are told to the core; clients' streams go to
the handlers of their kind and leave no trace. Everything is bounded: requests under way, answers
waited for, and their sizes. The boundary is described in docs/gossip.md.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import assert_never

from nodes.mesh import limits
from nodes.mesh.effects import LinkEffect
from nodes.mesh.gossip_effects import (
    CloseLink,
    OpenLink,
    ProbePort,
    SendAnswer,
    SendDatagram,
    SendRequest,
)
from nodes.mesh.gossip_events import (
    Contact,
    DatagramReceived,
    DialFailed,
    GossipEvent,
    LinkDown,
    LinkIdle,
    LinkUp,
    PeerRevoked,
    PortRefused,
    RequestAnswered,
    RequestFailed,
    RequestId,
    RequestReceived,
)
from nodes.mesh.gossip_events import LinkEnd as CoreLinkEnd
from nodes.mesh.gossip_events import LinkId as CoreLinkId
from nodes.mesh.ids import NodeId
from nodes.runtime.address import Address
from nodes.runtime.credentials import Role
from nodes.runtime.dial_errors import DialError
from nodes.runtime.link import Link, LinkNumber
from nodes.runtime.link_table import TWIN
from nodes.runtime.port_probe import PortAnswer, probe_port
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from nodes.runtime.tasks import TaskSet
from nodes.runtime.transport import Transport
from nodes.runtime.transport_events import LinkEnd

GOSSIP_KIND = "gossip"
TASKS_MAX = 256
"""Dials, requests and probes under way for the core; further ones fail at once."""
ANSWERS_MAX = 256
"""Requests of others that the core has not answered yet; further ones are refused."""
ANSWER_TIMEOUT_S = 30.0
READ_PROGRESS_S = 10.0

StreamHandler = Callable[[Link, Stream], Awaitable[None]]

_END = {LinkEnd.CLOSED: CoreLinkEnd.CLOSED, LinkEnd.LOST: CoreLinkEnd.LOST}


class PeerLinks:
    """The core's hands and ears. `attach` a transport before the first effect."""

    def __init__(
        self,
        deliver: Callable[[GossipEvent], None],
        link_idle_s: float,
        handlers: Mapping[str, StreamHandler] | None = None,
        on_twin: Callable[[NodeId, str], None] = lambda node_id, text: None,
    ) -> None:
        """`handlers` serve streams of other kinds (such as ``request``), also those of clients."""
        self._deliver = deliver
        self._link_idle_s = link_idle_s
        self._handlers = dict(handlers or {})
        self._on_twin = on_twin
        self._transport: Transport | None = None
        self._tasks = TaskSet()
        self._numbers = itertools.count(1)
        self._unanswered: dict[RequestId, tuple[NodeId, Stream]] = {}
        self._idle_timer: asyncio.TimerHandle | None = None

    def attach(self, transport: Transport) -> None:
        """Use this transport; it was made with this object as its `TransportEvents`."""
        self._transport = transport
        self._arm_idle()

    async def close(self) -> None:
        """Give up what is under way. The transport is closed by its owner."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        await self._tasks.cancel()

    # --- effects ----------------------------------------------------------------------------------

    def perform(self, effect: LinkEffect) -> None:
        """Carry out one effect of the core; its outcome comes as events, later."""
        match effect:
            case SendDatagram(peer, data):
                link = self._link(peer)
                if link is not None:
                    link.send_datagram(data)
            case SendRequest():
                failed = RequestFailed(effect.request)
                self._spawn(self._request(effect), failed)
            case SendAnswer(peer, request, data):
                known = self._unanswered.pop(request, None)
                if known is not None and known[0] == peer:
                    self._spawn(_finish(known[1], data), None)
            case OpenLink():
                self._spawn(self._open(effect), DialFailed(effect.contact, refused=False))
            case CloseLink(peer, number, reason):
                link = self._link(peer)
                if link is not None and link.number == LinkNumber(number):
                    self._owned().close_link(link, reason)
            case ProbePort():
                self._spawn(self._probe(effect), None)
            case _:
                assert_never(effect)

    def peer_revoked(self, node_id: NodeId) -> None:
        """Tell the core of a revocation and close what is open to that peer."""
        self._owned().recheck()
        self._deliver(PeerRevoked(node_id))

    async def _open(self, effect: OpenLink) -> None:
        try:
            await self._owned().dial(
                _addresses(effect.contact), effect.contact.node_id, effect.timeout_s
            )
        except DialError as error:
            self._deliver(DialFailed(effect.contact, error.refused))

    async def _request(self, effect: SendRequest) -> None:
        event: GossipEvent
        try:
            async with asyncio.timeout(effect.timeout_s):
                answer = await self._ask(effect)
            event = RequestAnswered(effect.request, answer)
        except DialError as error:
            event = RequestFailed(effect.request, error.refused)
        except (StreamAbortedError, TimeoutError):
            event = RequestFailed(effect.request)
        self._deliver(event)

    async def _ask(self, effect: SendRequest) -> bytes:
        contact = effect.contact
        link = await self._owned().dial(
            _addresses(contact), contact.node_id, effect.timeout_s, fresh=effect.fresh
        )
        stream = await link.open_stream(GOSSIP_KIND)
        try:
            await stream.write(effect.data)
            stream.end()
            return await stream.read_all(limits.STREAM_FRAME_BYTES_MAX)
        finally:
            # Nothing after a whole answer; after a timeout it tells the other side to stop.
            stream.abort(AbortCode.CANCELLED, "given up")

    async def _probe(self, effect: ProbePort) -> None:
        for address in parsed_addresses((effect.address,)):
            if await probe_port(address) is PortAnswer.REFUSED:
                self._deliver(PortRefused(effect.peer, effect.address))

    # --- TransportEvents --------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A link is ready, or another connection of it is in use now."""
        if link.role is Role.MEMBER:
            place = link.listen_address()
            self._deliver(
                LinkUp(
                    link.peer_id, CoreLinkId(link.number), link.dialled, str(place) if place else ""
                )
            )

    def link_down(self, link: Link, number: LinkNumber, reason: LinkEnd, text: str) -> None:
        """The link has no connection left."""
        if text == TWIN:
            self._on_twin(
                self._owned().trust.node_id, "another running process uses this node's key"
            )
        if link.role is Role.MEMBER:
            self._deliver(LinkDown(link.peer_id, CoreLinkId(number), _END[reason]))

    def datagram(self, link: Link, content: bytes) -> None:
        """A datagram came; of clients it is dropped."""
        if link.role is Role.MEMBER:
            self._deliver(DatagramReceived(link.peer_id, content))

    async def stream(self, link: Link, stream: Stream) -> None:
        """The peer opened a stream: gossip for the core, other kinds for their handlers."""
        handler = self._handlers.get(stream.kind)
        if stream.kind == GOSSIP_KIND and link.role is Role.MEMBER:
            await self._gossip(link, stream)
        elif handler is not None:
            await handler(link, stream)
        else:
            stream.abort(AbortCode.REFUSED, f"no streams of kind {stream.kind} here")

    def port_refused(self, link: Link, address: Address) -> None:
        """The peer's machine said, unasked, that the port is closed."""
        if link.role is Role.MEMBER:
            self._deliver(PortRefused(link.peer_id, str(address)))

    def twin_seen(self, node_id: NodeId, text: str) -> None:
        """Two running processes use one key."""
        self._on_twin(node_id, text)

    async def _gossip(self, link: Link, stream: Stream) -> None:
        """Hand a request to the core, and keep its stream until the core answers or time is up."""
        if len(self._unanswered) >= ANSWERS_MAX:
            stream.abort(AbortCode.REFUSED, "too many requests at a time")
            return
        content = await stream.read_all(limits.STREAM_FRAME_BYTES_MAX, READ_PROGRESS_S)
        number = RequestId(next(self._numbers))
        self._unanswered[number] = (link.peer_id, stream)
        asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, self._answer_late, number)
        self._deliver(RequestReceived(link.peer_id, number, content))

    def _answer_late(self, number: RequestId) -> None:
        known = self._unanswered.pop(number, None)
        if known is not None:
            known[1].abort(AbortCode.STALLED, "no answer in time")

    # --- inner ------------------------------------------------------------------------------------

    def _owned(self) -> Transport:
        assert self._transport is not None, "attach a transport first"
        return self._transport

    def _link(self, peer: NodeId) -> Link | None:
        link = self._owned().links.get(peer)
        return link if link is not None and link.is_up and link.role is Role.MEMBER else None

    def _spawn(
        self, coroutine: Awaitable[None], over_bound: RequestFailed | DialFailed | None
    ) -> None:
        """Run an effect, or say at once that there are too many."""
        assert asyncio.iscoroutine(coroutine)
        if len(self._tasks) < TASKS_MAX:
            self._tasks.spawn(coroutine)
            return
        coroutine.close()
        if over_bound is not None:
            # Later, not now: the core is in the middle of handing out effects.
            asyncio.get_running_loop().call_soon(self._deliver, over_bound)

    def _arm_idle(self) -> None:
        self._idle_timer = asyncio.get_running_loop().call_later(
            self._link_idle_s / 4, self._look_for_idle
        )

    def _look_for_idle(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for link in tuple(self._owned().links.values()):
            if link.active_streams:
                link.last_used_s = now_s
            elif link.role is Role.MEMBER and now_s - link.last_used_s >= self._link_idle_s:
                self._deliver(LinkIdle(link.peer_id, CoreLinkId(link.number)))
        self._arm_idle()


async def _finish(stream: Stream, content: bytes) -> None:
    """Send a whole answer; a peer that no longer wants it is no fault of ours."""
    try:
        await stream.write(content)
    except StreamAbortedError:
        return
    stream.end()


def _addresses(contact: Contact) -> list[Address]:
    return parsed_addresses(contact.addresses)


def parsed_addresses(texts: tuple[str, ...]) -> list[Address]:
    """Return the addresses that make sense: these come from other nodes' announcements."""
    found = []
    for text in texts:
        try:
            found.append(Address.parse(text))
        except ValueError:
            continue
    return found
