"""The composition root: builds every part of one node and wires them; the only file that knows all.

A `RunningNode` is started and stopped as a whole. It owns no listening socket: `meshsite.boot` (our
own two servers) or any ASGI server (`meshsite.asgi`) brings the requests.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from meshsite import background, exit_codes, mesh_entry, mesh_metrics, told
from meshsite.client_side import ClientSide
from meshsite.control import ControlApp
from meshsite.draining import drain
from meshsite.engines import Engines
from meshsite.lane_side import LaneSide
from meshsite.mesh_entry import Standing
from meshsite.mesh_side import MeshSide
from meshsite.operator_door import OperatorDoor, why_document
from meshsite.options import Options
from meshsite.peer_models import PeerModels
from meshsite.peer_requests import PeerRequests
from meshsite.side import Side
from meshsite.status import status
from nodes.mesh import events as ev
from nodes.mesh.effects import LinkEffect
from nodes.mesh.gossip_effects import PublishNotice, RememberContacts
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.node import MeshNode
from nodes.mesh.plans import ServerPlan, WorkerPlan
from nodes.mesh.routing import RoutingTable
from nodes.runtime import bind_port, handle
from nodes.runtime.daemon_thread import in_daemon_thread
from nodes.runtime.driver import Driver
from nodes.runtime.feed import Feed
from nodes.runtime.home import Home
from nodes.runtime.resources import ResourceSampler
from proxy.asgi import ApiApp
from proxy.records import RequestRecord
from proxy.request_story import stories
from proxy.series import RequestSeries
from proxy.tunnel import REQUEST_KIND

log = logging.getLogger("mesh.node")

STOP_MARGIN_S = 15.0
"""What an orderly stop may take beyond the streams' grace before it is cut off."""


class RunningNode:
    """One node: core, driver, engines, API. Everything on one loop."""

    def __init__(
        self,
        options: Options,
        home: Home,
        found: Standing,
        endpoints: told.Endpoints,
        bound: bind_port.BoundPort | None,
    ) -> None:
        """`bound` None: a client, which listens for nobody."""
        self.options = options
        self.home = home
        self.endpoints = endpoints
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.feed = Feed()
        self.on_request: Callable[[RequestRecord], None] | None = None
        """Told of every finished request; set by whoever keeps usage."""
        self.series = RequestSeries(time.time())
        self.on_fatal: Callable[[str], None] | None = None
        """Told why the node cannot do what it was started for; set by the boot, which then ends it.
        None: the node lives on and shows the reason."""
        self.engine_looked_for = asyncio.Event()
        self.models_looked_for = asyncio.Event()
        self.node_id = found.who.node_id
        self._tasks: set[asyncio.Task[Any]] = set()
        me = told.me(options, self.node_id, endpoints)
        node = MeshNode(me, told.serving_options(options))
        self.name = me.name
        self.driver = Driver(node, self.feed, self)
        self.routes = node.routes
        self.api = ApiApp(
            told.api_config(options, home.secret),
            lambda: self.routes,
            self._request_finished,
            str(self.node_id),
            on_host_failed=lambda node_id, trouble: self._peers.host_failed(node_id, trouble),  # noqa: PLW0108
            silence_s=lambda node_id: self.mesh.silence_s(node_id),  # noqa: PLW0108 - made below
        )
        lane = LaneSide(options, home, bound.port, self.driver) if bound is not None else None
        self.engines = Engines(options, home, self.driver, self.api, lane, self.spawn)
        self.mesh = self._side(found, bound)
        self._peer_models = self._other_disks(found)
        self._peers = PeerRequests(self.api, self.mesh)
        mesh_metrics.register(self.api.metrics.registry, self.driver, self.mesh)
        self.operator = OperatorDoor(
            self.driver, self.mesh, lambda name: self.spawn(self._load(name)), self.request_stop
        )
        self.handle = self._handle()
        self.api_port_app = ControlApp(self.api, self.handle)

    def _side(self, found: Standing, bound: bind_port.BoundPort | None) -> Side:
        if bound is None:
            return ClientSide(found, self.options, self.name, self)
        lane = self.engines.lane
        assert lane is not None
        handlers = {REQUEST_KIND: self.api.peer_desk.serve, **lane.handlers}
        side = MeshSide(found, self.options, self.name, self, bound, handlers)
        lane.attach(side)
        return side

    def _other_disks(self, found: Standing) -> PeerModels | None:
        if self.engines.lane is None:
            return None
        expects = bool(self.options.join or mesh_entry.known_contacts(found, ()))
        return PeerModels(
            self.engines.lane,
            self.driver.node.members,
            self.options.models_dir,
            self.engine_looked_for,
            expects_members=expects,
        )

    def start(self) -> None:
        """Begin: the driver first, then what feeds it. Returns at once."""
        handle.install(self.handle)
        self.spawn(self._drive())
        self.spawn(self.mesh.run())
        if self.options.client:
            self.engine_looked_for.set()
            self.models_looked_for.set()
        else:
            self._start_serving()

    def _start_serving(self) -> None:
        """Look for what a full member serves with: engine, models, memory."""
        self.spawn(self._find_engine())
        self.spawn(self._resolve_models())
        self.spawn(background.scan_disk(self.options, self._disk_scanned))
        sampler = ResourceSampler(lambda: self.engines.devices, self.options.max_vram_bytes)
        if short := background.too_little_memory(sampler.sample(()).offered_bytes):
            self._cannot_serve(short, [])
        self.spawn(background.sample_resources(sampler, self.engines.pids, self.driver.post))
        self.spawn(in_daemon_thread(sampler.look_for_gpus, "look for GPUs"))
        self.spawn(background.sample_load(self.api.load_samples, self._load_changed))
        self.spawn(background.tell_load(self._peers.load, self.driver.post))

    def request_stop(self, reason: str) -> None:
        """Ask for an orderly stop; `exited` is set when the engines are gone, or it takes too long."""
        self.api.refuse_new()
        self.driver.post(ev.StopRequested(reason))
        self.spawn(self._answers_out())
        overdue_s = self.options.stop_grace_s + STOP_MARGIN_S
        asyncio.get_running_loop().call_later(overdue_s, self.exit, exit_codes.CUT_OFF)

    def exit(self, code: int) -> None:
        """Set `exited`; the first code stays."""
        if not self.exited.done():
            self.exited.set_result(code)

    async def close(self) -> None:
        """End what is left, whatever the state. May be called at any time."""
        await self.engines.close()
        self._peers.close()
        await self.mesh.close()
        self.api.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        handle.install(None)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` as a task that `close` ends and whose failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A background task of the node failed: %s", error, exc_info=error)

    # --- Actions: what the core asks for (nodes.runtime.driver) ---

    def start_server(self, plan: ServerPlan) -> None:
        """Start an engine."""
        self.engines.start_server(plan)

    def stop_server(self, run_id: RunId, grace_s: float) -> None:
        """Let the model's open answers finish for `grace_s`, then end its engine."""
        self.engines.stop_server(run_id, grace_s)

    def start_worker(self, plan: WorkerPlan) -> None:
        """Lend memory to another node's split."""
        self.engines.start_worker(plan)

    def stop_worker(self, run_id: RunId) -> None:
        """Take it back."""
        self.engines.stop_worker(run_id)

    def resolve_model(self, name: ModelName, download: bool) -> None:
        """Find the file of a model that the mesh wants served here."""
        self.spawn(self._resolve_for_mesh(name, download))

    async def _resolve_for_mesh(self, name: ModelName, download: bool) -> None:
        refusal = await background.resolve_model(
            self.options,
            name,
            self.driver.post,
            self._peer_models,
            download=download,
            for_mesh=True,
        )
        if refusal is not None:
            self.driver.post(refusal)

    def change_routes(self, table: RoutingTable) -> None:
        """Route by this table from now on."""
        before, self.routes = self.routes, table
        self._peers.routes_changed(before, table)

    def leave_and_exit(self, exit_code: int, reason: str) -> None:
        """Tell the boot that the node is done."""
        log.info("Leaving: %s.", reason)
        self.exit(exit_code)

    def perform_link(self, effect: LinkEffect) -> None:
        """Carry out what the core wants of the network."""
        self.mesh.perform(effect)

    def remember_contacts(self, effect: RememberContacts) -> None:
        """Keep where the mesh was seen."""
        self.mesh.remember(effect)

    def notice_published(self, notice: PublishNotice) -> None:
        """Take over a word about trust that gossip brought."""
        self.mesh.noticed(notice)

    def twin_reported(self, text: str) -> None:
        """Another process uses this node's key."""
        self.mesh.twin(text)

    async def _answers_out(self) -> None:
        await drain(self.api, self.options.stop_grace_s)
        self.driver.post(ev.AnswersFinished())

    # --- what feeds the core ---

    async def _drive(self) -> None:
        """Drive the core; a node whose core failed decides nothing any more, so it ends."""
        try:
            await self.driver.run()
        except Exception:
            log.exception("The node's core failed.")
            text = "The node's core failed, so the node ends; its log says how. Start it again."
            self._cannot_serve(text, [])

    async def _find_engine(self) -> None:
        try:
            found = await background.find_engine(self.options, self.home)
        except OSError as fault:
            found = f"The engine could not be looked for: {fault}. Name its folder with --bin-dir."
        if isinstance(found, str):
            self._cannot_serve(found, [ev.EngineUnavailable(found)])
        else:
            self.engines.found(found)
        self.engine_looked_for.set()

    def _disk_scanned(self, event: ev.Event) -> None:
        self.driver.post(event)
        if self.engines.lane is not None and isinstance(event, ev.DiskScanned):
            self.engines.lane.disk_scanned(event.models)

    def _load_changed(self, sample: ev.ServerLoadSampled) -> None:
        self.engines.load_changed(sample)
        self._peers.sampled(sample, self.routes)
        self.driver.post(sample)

    async def _resolve_models(self) -> None:
        refusals = await background.resolve_models(
            self.options, self.driver.post, self._peer_models
        )
        own = len(self.options.models) if self.options.serve_all else 1
        if refusals and len(refusals) == own:
            self._cannot_serve(" ".join(r.reason for r in refusals), refusals)
        else:
            for refusal in refusals:
                self.driver.post(refusal)
        self.models_looked_for.set()

    def _cannot_serve(self, text: str, events: Sequence[ev.Event]) -> None:
        """End the node by the boot, which says why; without one, show the reason and live on."""
        if self.on_fatal is not None:
            self.on_fatal(text)
            return
        for event in events:
            self.driver.post(event)

    async def _load(self, name: str) -> str:
        refusal = await background.resolve_model(
            self.options, name, self.driver.post, self._peer_models
        )
        if refusal is None:
            return ""
        self.driver.post(refusal)
        return refusal.reason

    def notice(self, kind: str, text: str | None) -> None:
        """Show viewers something they should know now; None takes it away."""
        key = f"notice/{kind}"
        if text is not None:
            self.feed.publish({key: {"level": "warning", "text": text}})
        elif key in self.feed.state:
            self.feed.publish({}, (key,))

    def cannot_go_on(self, text: str) -> None:
        """End the node, which can never do what it was started for."""
        self._cannot_serve(text, [])

    def waiting_changed(self, waiting: tuple[dict[str, Any], ...]) -> None:
        """Show viewers which machines wait to be approved."""
        put = {f"pending/{entry['id']}": entry for entry in waiting}
        shown = [key for key in self.feed.state if key.startswith("pending/")]
        self.feed.publish(put, tuple(key for key in shown if key not in put))

    def invite_token(self) -> str:
        """Return the start-up token; empty before the node is in a mesh."""
        return self.mesh.invite_token()

    def _request_finished(self, record: RequestRecord) -> None:
        self.series.add(record, time.time())
        if self.on_request is not None:
            self.on_request(record)

    def _why(self, model: str) -> dict[str, Any]:
        return why_document(self.driver.node.why(ModelName(model), time.monotonic()))

    def _handle(self) -> handle.NodeHandle:
        return handle.NodeHandle(
            node_id=str(self.node_id),
            feed=self.feed,
            logs=self.engines,
            operator=self.operator,
            api=self.api,
            status=lambda operator: status(
                self.feed.state,
                self.feed.seq,
                self.invite_token() if operator else None,
            ),
            invite_token=self.invite_token,
            home_secret=self.home.secret,
            loopback_only=self.options.loopback_only,
            host_names=told.host_names(self.options),
            cors_origins=self.options.cors_origins,
            metrics=self.api.metrics.render,
            requests=lambda limit: stories(self.api.records, limit),
            series=lambda minutes: self.series.document(minutes, time.time()),
            can_join=not self.options.client,
            why=self._why,
        )


def build_node(
    options: Options, home: Home, endpoints: Callable[[int | None], told.Endpoints]
) -> RunningNode:
    """Return the node of this home, with its UDP port bound; nothing runs yet.

    `endpoints` tells where it is reached, given that port.

    Raises:
        IdentityError, MeshKeyError, TokenLedgerError, TrustFileError, BindPortError, CannotJoin: one
            sentence with what to do.
    """
    found = mesh_entry.standing(home, options)
    mesh_entry.refuse_own_token(found, options.join)
    if options.client:
        return RunningNode(options, home, found, endpoints(None), None)
    bound = bind_port.bind(found.home, options.bind_ip, options.bind_port)
    if bound.moved:
        log.warning(
            "The remembered UDP port is taken, so this node uses %d: invite tokens of before lead "
            "elsewhere. --bind-port chooses one.",
            bound.port,
        )
    try:
        return RunningNode(options, home, found, endpoints(bound.port), bound)
    except BaseException:
        bound.sock.close()
        raise
