"""Small nodes that can split a model: real links, a real lane process each, real engines; no membership.

What a plan says is written by the tests; who is a member is told by hand.
"""

import asyncio
import contextlib
import dataclasses
import json
import urllib.request
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from meshsite.lane_side import LaneSide
from meshsite.options import Options
from models_registry.engine.probe import Engine
from models_registry.gguf_header import read_facts
from models_registry.supervision.hang_watch import HangLimits
from models_registry.supervisor import Supervisor
from nodes.mesh.announcement import Announcement
from nodes.mesh.events import LaneSampled, ServerExited, ServerReady, WorkerExited, WorkerReady
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import ModelName, NodeId, RunId
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.node import Input, MeshNode
from nodes.mesh.placement import ServingOptions
from nodes.mesh.plans import ServerPlan, SplitPlan, WorkerPlan, WorkerSeat
from nodes.mesh.view import Me
from nodes.runtime.address import Address
from nodes.runtime.driver import Driver
from nodes.runtime.feed import Feed
from nodes.runtime.home import Home, enter
from nodes.runtime.link import Link
from nodes.runtime.streams import Stream
from tests.fakes.node_actions import NoActions
from tests.models_registry.supervising import Reports
from tests.nodes.link_lab import Lab, LabNode, lab, overrule

E = TypeVar("E", ServerExited, WorkerExited)
PROMPTS = ("the node", "what is a mesh", "a b c", "open the door and read the book")


class Links:
    """The node's side of the mesh, as far as the lane needs it."""

    def __init__(self, node: LabNode, links: Lab) -> None:
        self.trust = node.trust
        self.transport = node.transport
        self.on_standing = lambda: None
        self._lab = links
        self.doubted: list[NodeId] = []

    def use_failed(self, node_id: NodeId) -> None:
        self.doubted.append(node_id)

    def addresses_of(self, node_id: NodeId) -> Sequence[Address]:
        return [one.address for one in self._lab.nodes if one.id == node_id]


class SeenDriver(Driver):
    """Keeps what is posted beside the core, which decides nothing here."""

    def __init__(self, node: MeshNode) -> None:
        super().__init__(node, Feed(), NoActions())
        self.posted: list[Input] = []

    def post(self, event: Input) -> None:
        self.posted.append(event)


@dataclass
class SplitNode:
    """One node."""

    name: str
    node: LabNode
    lane: LaneSide
    supervisor: Supervisor
    reports: Reports
    driver: SeenDriver
    home: Home

    @property
    def id(self) -> NodeId:
        return self.node.id

    @property
    def lane_pid(self) -> int:
        process = self.lane._process
        assert process is not None and process.pid is not None
        return process.pid

    def knows(self, other: "SplitNode", state: MemberState = MemberState.ALIVE) -> None:
        said = Announcement(name=other.name)
        view = MemberView(other.id, state, False, 1, 1, said, None)
        self.driver.node.members.take([view], 0.0)

    async def work_for(
        self, host: "SplitNode", model: Path, layers: int, *, term: int = 1, run: int = 1,
        has_file: bool = True,
    ) -> WorkerSeat:  # fmt: skip
        """Return the seat of a worker that is ready."""
        files = (str(model),) if has_file else ()
        plan = WorkerPlan(RunId(run), ModelName("tiny"), host.id, term, layers, files)
        await self.supervisor.start_worker(plan)
        ready = await self.reports.wait_for(WorkerReady)
        self.reports.events.remove(ready)
        return WorkerSeat(self.id, ready.port, layers)

    def lines(self) -> list[LaneSampled]:
        return [event for event in self.driver.posted if isinstance(event, LaneSampled)]


class SplitLab:
    """Makes such nodes of one mesh, and ends them."""

    def __init__(self, folder: Path, links: Lab, engine: Engine) -> None:
        self._folder = folder
        self._links = links
        self._engine = engine
        self.nodes: list[SplitNode] = []

    async def node(self, limits: HangLimits | None = None) -> SplitNode:
        """Return a node whose lane is not started yet; all know each other as members."""
        name = f"box-{len(self.nodes) + 1}"
        node = await self._links.node()
        home = enter(self._folder / name, ephemeral=False)
        me = Me(node.id, name, "1", "m", 1, False, 1, None, None, "", None)
        driver = SeenDriver(MeshNode(me, ServingOptions()))
        lane = LaneSide(Options(bind_ip="127.0.0.1"), home, node.address.port, driver)
        lane.attach(Links(node, self._links))

        async def serve(link: Link, stream: Stream) -> None:
            await lane.handlers[stream.kind](link, stream)

        overrule(node.seen, "stream", serve)
        reports = Reports()
        supervisor = Supervisor(
            self._engine, run_dir=home.run, log_dir=home.logs, report=reports.events.append,
            limits=limits, lane=lane,
        )  # fmt: skip
        lane.supervisor = supervisor
        made = SplitNode(name, node, lane, supervisor, reports, driver, home)
        for other in self.nodes:
            other.knows(made)
            made.knows(other)
        self.nodes.append(made)
        return made

    async def close(self) -> None:
        for one in self.nodes:
            await one.lane.close()
            await one.supervisor.close(0)
            one.home.close()


@contextlib.asynccontextmanager
async def split_lab(folder: Path, engine: Engine) -> AsyncIterator[SplitLab]:
    async with lab() as links:
        made = SplitLab(folder, links, engine)
        try:
            yield made
        finally:
            await made.close()


def facts(model: Path) -> ModelFacts:
    return dataclasses.replace(read_facts(model), name=ModelName("tiny"))


def split_plan(
    model: Path, seats: Sequence[WorkerSeat], *, term: int = 1, run: int = 1
) -> ServerPlan:
    """Return the plan of a host without a GPU: its own rpc-server has the rest of the layers."""
    known = facts(model)
    rest = known.layers - sum(seat.layers for seat in seats)
    split = SplitPlan(term, tuple(seats), (rest,))
    return ServerPlan(RunId(run), known, context=512, parallel=2, rpc_self=True, split=split)


def solo_plan(model: Path, run: int = 9) -> ServerPlan:
    return ServerPlan(RunId(run), facts(model), context=512, parallel=2)


async def started(host: SplitNode, plan: ServerPlan) -> ServerReady:
    """Return the readiness of a run that is started here; an end of it before that fails the test."""
    await host.supervisor.start(plan)
    ready = await host.reports.wait_for(ServerReady)
    host.reports.events.remove(ready)
    return ready


async def ended(host: SplitNode, timeout_s: float = 10.0) -> ServerExited:
    return await _report(host, ServerExited, timeout_s)


async def worker_ended(worker: SplitNode, timeout_s: float = 10.0) -> WorkerExited:
    return await _report(worker, WorkerExited, timeout_s)


async def _report(node: SplitNode, kind: type[E], timeout_s: float) -> E:
    """Return the first such report, taken away."""
    async with asyncio.timeout(timeout_s):
        while True:
            for event in node.reports.events:
                if isinstance(event, kind):
                    node.reports.events.remove(event)
                    return event
            await asyncio.sleep(0.005)


async def words(port: int, tokens: int = 32) -> list[str]:
    """Return the engine's answers at temperature 0."""
    return [await asyncio.to_thread(_complete, port, prompt, tokens) for prompt in PROMPTS]


def _complete(port: int, prompt: str, tokens: int) -> str:
    body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "seed": 1}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/completion", json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=120) as answer:
        return str(json.load(answer)["content"])
