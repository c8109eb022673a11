"""The driver: the one task that calls `MeshNode.handle`, and the owner of the clock.

Events come in through `post`, effects go out through `Actions`. Nothing here decides anything.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from nodes.mesh.announcement import Announcement
from nodes.mesh.effects import (
    ChangeRoutes,
    Effect,
    LeaveAndExit,
    LinkEffect,
    PublishDelta,
    RecordEvent,
    ResolveModel,
    StartServer,
    StartWorker,
    StopServer,
    StopWorker,
)
from nodes.mesh.events import ServerLoadSampled, TimePassed
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_effects import (
    CloseLink,
    OpenLink,
    ProbePort,
    PublishNotice,
    RememberContacts,
    ReportTwin,
    SendAnswer,
    SendDatagram,
    SendRequest,
)
from nodes.mesh.gossip_events import DatagramReceived
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.node import Input, MeshNode
from nodes.mesh.plans import ServerPlan, WorkerPlan
from nodes.mesh.routing import RoutingTable
from nodes.runtime.feed import Feed

log = logging.getLogger("mesh.driver")

INBOX_MAX = 10_000
"""Events that may wait. A full inbox means a stuck loop: samples and datagrams are thrown away there (a
network may lose those anyway), anything else still gets in: a lost exit would never be told again."""
_MAY_BE_LOST = (ServerLoadSampled, DatagramReceived)


class Actions(Protocol):
    """What the composition root carries out for the core. Returns at once; results come as events."""

    def start_server(self, plan: ServerPlan) -> None: ...
    def stop_server(self, run_id: RunId, grace_s: float) -> None: ...
    def start_worker(self, plan: WorkerPlan) -> None: ...
    def stop_worker(self, run_id: RunId) -> None: ...
    def resolve_model(self, name: ModelName, download: bool) -> None: ...
    def change_routes(self, table: RoutingTable) -> None: ...
    def leave_and_exit(self, exit_code: int, reason: str) -> None: ...
    def perform_link(self, effect: LinkEffect) -> None: ...
    def remember_contacts(self, effect: RememberContacts) -> None: ...
    def notice_published(self, notice: PublishNotice) -> None: ...
    def twin_reported(self, text: str) -> None: ...


class Driver:
    """Inbox -> handle -> effects. Create it, `post` into it from the loop, run `run` as a task."""

    def __init__(self, node: MeshNode, feed: Feed, actions: Actions) -> None:
        self.node = node
        self._feed = feed
        self._actions = actions
        self._inbox: deque[Input] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()

    def post(self, event: Input) -> None:
        """Hand in an event. From the loop's thread only."""
        if len(self._inbox) >= INBOX_MAX and isinstance(event, _MAY_BE_LOST):
            return
        self._inbox.append(event)
        self._idle.clear()
        self._wake.set()

    def enter_mesh(
        self, make: Callable[[Announcement], GossipNode], mesh_id: str, quic_port: int | None
    ) -> None:
        """Let the core be in this mesh from now on (`MeshNode.enter_mesh`)."""
        for effect in self.node.enter_mesh(make, mesh_id, quic_port, time.monotonic()):
            self._do(effect)
        self._wake.set()

    async def settled(self) -> None:
        """Wait until every event posted so far has been taken."""
        await self._idle.wait()

    async def run(self) -> None:
        """Drive until cancelled."""
        for effect in self.node.opening():
            self._do(effect)
        while True:
            await self._wait()
            while self._inbox:
                self._step(self._inbox.popleft())
            self._idle.set()
            deadline = self.node.deadline
            if deadline is not None and deadline <= time.monotonic():
                self._step(TimePassed())

    async def _wait(self) -> None:
        if self._inbox:
            return
        self._wake.clear()
        deadline = self.node.deadline
        if deadline is None:
            await self._wake.wait()
            return
        # Not `asyncio.timeout`: that cancels and catches at each deadline, several times a second for ever.
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, deadline - time.monotonic()), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _step(self, event: Input) -> None:
        for effect in self.node.handle(event, time.monotonic()):
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case StartServer(plan):
                self._actions.start_server(plan)
            case StopServer(run_id, grace_s):
                self._actions.stop_server(run_id, grace_s)
            case ChangeRoutes(table):
                self._actions.change_routes(table)
            case PublishDelta(put, drop):
                self._feed.publish(put, drop)
            case RecordEvent():
                self._record(effect)
            case LeaveAndExit(exit_code, reason):
                self._actions.leave_and_exit(exit_code, reason)
            case StartWorker(plan):
                self._actions.start_worker(plan)
            case StopWorker(run_id):
                self._actions.stop_worker(run_id)
            case ResolveModel(name, download):
                self._actions.resolve_model(name, download)
            case SendDatagram() | SendRequest() | SendAnswer() | OpenLink() | CloseLink():
                self._actions.perform_link(effect)
            case ProbePort():
                self._actions.perform_link(effect)
            case RememberContacts():
                self._actions.remember_contacts(effect)
            case PublishNotice():
                self._actions.notice_published(effect)
            case ReportTwin(text):
                self._actions.twin_reported(text)

    def _record(self, effect: RecordEvent) -> None:
        level = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
        log.log(
            level[effect.level], effect.text, extra={"kind": effect.kind, "model": effect.model}
        )
        entry = {
            "at": round(time.time(), 3),
            "kind": effect.kind,
            "level": effect.level,
            "text": effect.text,
            "model": effect.model,
            "node": effect.node_id,
        }
        if effect.ballot is not None:
            ballot = effect.ballot
            entry |= {"term": ballot.term, "host": ballot.host, "workers": list(ballot.workers)}
        self._feed.record(entry)
