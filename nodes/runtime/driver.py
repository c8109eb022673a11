"""The driver: the one task that calls `MeshNode.handle`, and the owner of the clock.

Events come in through `post`, effects go out through `Actions`. Nothing here decides anything.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Protocol

from nodes.mesh.effects import (
    ChangeRoutes,
    Effect,
    LeaveAndExit,
    PublishDelta,
    RecordEvent,
    StartServer,
    StopServer,
)
from nodes.mesh.events import Event, ServerLoadSampled, TimePassed
from nodes.mesh.ids import RunId
from nodes.mesh.node import MeshNode
from nodes.mesh.plans import ServerPlan
from nodes.mesh.routing import RoutingTable
from nodes.runtime.feed import Feed

log = logging.getLogger("mesh.driver")

INBOX_MAX = 10_000
"""Events that may wait. The node makes a few a second, so a full inbox means a stuck loop: samples
are thrown away there, anything else still gets in, because a lost exit would never be told again."""


class Actions(Protocol):
    """What the composition root carries out for the core. Returns at once; results come as events."""

    def start_server(self, plan: ServerPlan) -> None: ...
    def stop_server(self, run_id: RunId, grace_s: float) -> None: ...
    def change_routes(self, table: RoutingTable) -> None: ...
    def leave_and_exit(self, exit_code: int, reason: str) -> None: ...


class Driver:
    """Inbox -> handle -> effects. Create it, `post` into it from the loop, run `run` as a task."""

    def __init__(self, node: MeshNode, feed: Feed, actions: Actions) -> None:
        self.node = node
        self._feed = feed
        self._actions = actions
        self._inbox: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()

    def post(self, event: Event) -> None:
        """Hand in an event. From the loop's thread only."""
        if len(self._inbox) >= INBOX_MAX and isinstance(event, ServerLoadSampled):
            return
        self._inbox.append(event)
        self._idle.clear()
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
        timeout_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _step(self, event: Event) -> None:
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

    def _record(self, effect: RecordEvent) -> None:
        level = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
        log.log(
            level[effect.level], effect.text, extra={"kind": effect.kind, "model": effect.model}
        )
        self._feed.record(
            {
                "at": round(time.time(), 3),
                "kind": effect.kind,
                "level": effect.level,
                "text": effect.text,
                "model": effect.model,
                "node": effect.node,
            }
        )
