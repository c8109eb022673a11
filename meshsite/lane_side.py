"""The node's bulk lane: its process, where peers' lanes are, who is let in, and what is told of it.

Started at the first need (as a split's worker or host, or when a member asks where it listens), so that
a node alone pays nothing for it. Decides nothing about splits: the core's plans say who is let in, and
a peer that membership calls gone is cut off here, too.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from meshsite.lane_lines import lane_lines
from meshsite.lane_paths import LaneLinks, LanePaths
from meshsite.options import Options
from models_registry.log_ring import EngineLogs
from models_registry.progress import OnProgress
from models_registry.rpc import control_words as cw
from models_registry.rpc.lane_process import LaneFault, LaneProcess
from models_registry.rpc.shares import share_bytes
from models_registry.shards import projector_family
from models_registry.supervision.split_lane import SplitFault
from models_registry.supervisor import Supervisor
from nodes.mesh.events import LaneLine, LaneSampled
from nodes.mesh.ids import NodeId
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.plans import ServerPlan, WorkerPlan
from nodes.runtime.daemon_thread import in_daemon_thread
from nodes.runtime.driver import Driver
from nodes.runtime.home import Home
from nodes.runtime.links import StreamHandler
from nodes.runtime.tasks import TaskSet
from nodes.runtime.trust import Trust

log = logging.getLogger("mesh.node")

PROCESS_WAIT_S = 5.0
"""How long a lane process that is just being started again is waited for."""
PEERS_PERIOD_S = 0.2
"""How often the peers of splits are looked for among the members: one that died is cut off so soon."""
POLL_S = 0.05


class LaneSide:
    """The lane of one full member, a `SplitLane`. `attach` the side of the mesh before anything else."""

    def __init__(self, options: Options, home: Home, quic_port: int, driver: Driver) -> None:
        self._options = options
        self._home = home
        self._quic_port = quic_port
        self._driver = driver
        self._trust: Trust | None = None
        self.supervisor: Supervisor | None = None
        """Set once there is an engine: before, there is nothing to split."""
        self._process: LaneProcess | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self._paths = LanePaths(self._running, lambda: self._process, self._name)
        self._tasks = TaskSet()
        self._ports: dict[int, NodeId] = {}
        """Local ports of this host -> the workers they lead to."""
        self._hosts: dict[int, NodeId] = {}
        """rpc-servers of this worker -> who is let in."""
        self._names: dict[NodeId, str] = {}
        """What peers of splits are called: one that died is a member no more when it is told of."""
        self._seen: set[NodeId] = set()
        self._lines: tuple[LaneLine, ...] = ()
        self._on_disk: dict[str, tuple[str, ...]] = {}

    @property
    def handlers(self) -> dict[str, StreamHandler]:
        """What serves the lane's streams over the peer link."""
        return self._paths.handlers

    def attach(self, mesh: LaneLinks) -> None:
        """Use these links and this trust."""
        self._trust = mesh.trust
        self._paths.attach(mesh)
        mesh.on_standing = self._standing_changed

    async def close(self) -> None:
        """End the process and every tunnel. Before the supervisor, whose guard watches the process."""
        self._closed = True
        async with self._starting:
            process, self._process = self._process, None
        await self._tasks.cancel()
        await self._paths.close()
        if process is not None:
            await process.close()

    # --- the process ------------------------------------------------------------------------------

    async def _running(self) -> LaneProcess:
        """Return the lane process, started at the first need. Raises: SplitFault."""
        async with self._starting:
            if self._closed:
                raise SplitFault("this node is stopping")
            if self._process is None:
                self._process = await self._start()
        by_s = asyncio.get_running_loop().time() + PROCESS_WAIT_S
        while self._process is not None and self._process.pid is None:
            if asyncio.get_running_loop().time() > by_s:
                raise SplitFault("this node's lane process does not come up; its log says why")
            await asyncio.sleep(POLL_S)
        if self._process is None:
            raise SplitFault("this node is stopping")
        return self._process

    async def _start(self) -> LaneProcess:
        if self.supervisor is None or self._trust is None:
            raise SplitFault("this node has no engine")
        roster = await self.supervisor.guarded_roster()
        process = LaneProcess(
            roster,
            EngineLogs(self._home.logs).open("lane"),
            self._trust,
            self._paths.open_quic,
            digests_folder=self._home.run / "digests",
            on_report=self._reported,
            on_ports_lost=self._ports_lost,
            on_port_lost=self._port_lost,
        )
        try:
            await process.start()
        except OSError as fault:
            raise SplitFault(f"the lane process could not be started: {fault}") from fault
        await self._listen(process)
        process.share(self._on_disk)
        self._tasks.spawn(self._look_after_peers())
        return process

    async def _listen(self, process: LaneProcess) -> None:
        """Listen on the number of the UDP port, which a firewall may know, or on any other."""
        for port in (self._quic_port, 0):
            try:
                await process.listen(self._options.bind_ip, port)
            except LaneFault as fault:
                log.info("The lane cannot listen on TCP port %d: %s", port, fault)
            else:
                return
        log.warning(
            "The lane listens on no TCP port: members reach this node's memory by QUIC, slowly."
        )

    def _standing_changed(self) -> None:
        if self._process is not None:
            self._process.trust_changed()

    def disk_scanned(self, models: Sequence[ModelFacts]) -> None:
        """Let members fetch what is on disk now, once the lane runs."""
        self._on_disk = {model.name: _files(model) for model in models}
        if self._process is not None:
            self._process.share(self._on_disk)

    # --- SplitLane: as a host ---------------------------------------------------------------------

    async def open(self, plan: ServerPlan) -> tuple[int, ...]:
        """See `SplitLane.open`."""
        assert plan.split is not None
        process = await self._running()
        split, files = plan.split, plan.model.shards
        peers = {seat.node_id for seat in split.workers}
        await asyncio.gather(*(self._paths.learn(process, peer) for peer in peers))
        expected = await in_daemon_thread(lambda: share_bytes(files, split), "size of the shares")
        ports: list[int] = []
        try:
            for seat, seat_bytes in zip(split.workers, expected, strict=True):
                self._names[seat.node_id] = self._name(seat.node_id)
                port = await process.open_port(
                    seat.node_id, seat.rpc_port, split.term, files, expected_bytes=seat_bytes
                )  # fmt: skip
                ports.append(port)
                self._ports[port] = seat.node_id
        except LaneFault as fault:
            self.close_ports(ports)
            raise SplitFault(f"its tunnels could not be opened ({fault})") from fault
        except asyncio.CancelledError:
            self.close_ports(ports)
            raise
        return tuple(ports)

    def name_client(self, ports: Sequence[int], pid: int) -> None:
        """See `SplitLane.name_client`."""
        for port in ports:
            if self._process is not None:
                self._process.name_client(port, pid)

    def close_ports(self, ports: Sequence[int]) -> None:
        """See `SplitLane.close_ports`."""
        for port in ports:
            if self._ports.pop(port, None) is not None and self._process is not None:
                self._tasks.spawn(self._process.close_port(port))

    def _port_lost(self, port: int, reason: str) -> None:
        peer = self._ports.get(port)
        if peer is not None and self.supervisor is not None:
            log.warning("The tunnel to %s is gone: %s.", self._name(peer), reason)
            self.supervisor.tunnel_lost(port, self._name(peer))
            self._paths.doubt(peer)

    def _ports_lost(self) -> None:
        """The lane process died, and with it every way to a worker."""
        lost, self._ports = self._ports, {}
        for port, peer in lost.items():
            if self.supervisor is not None:
                self.supervisor.tunnel_lost(port, self._name(peer))

    # --- SplitLane: as a worker -------------------------------------------------------------------

    async def admit(self, plan: WorkerPlan, port: int) -> None:
        """See `SplitLane.admit`."""
        process = await self._running()
        self._hosts[port] = plan.host
        self._names[plan.host] = self._name(plan.host)
        try:
            notes = await process.grant(port, plan.host, plan.term, plan.files)
        except LaneFault as fault:
            self._hosts.pop(port, None)
            raise SplitFault(str(fault)) from fault
        for note in notes:
            log.warning("Weights of %s will come from its host: %s.", plan.model, note)

    def withdraw(self, port: int) -> None:
        """See `SplitLane.withdraw`."""
        self._hosts.pop(port, None)
        if self._process is not None:
            self._process.withdraw(port)

    # --- files ------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """True once the node is stopping."""
        return self._closed

    async def fetch(
        self, peer: NodeId, model: str, folder: Path, on_progress: OnProgress
    ) -> list[Path]:
        """Return a model's files, now whole in `folder`, from a peer that has them. Raises: SplitFault."""
        process = await self._running()
        await self._paths.learn(process, peer)
        try:
            return await process.fetch(peer, model, folder, on_progress)
        except LaneFault as fault:
            raise SplitFault(str(fault)) from fault

    # --- what is told -----------------------------------------------------------------------------

    def _name(self, peer: NodeId) -> str:
        """Return what a peer is called."""
        view = self._driver.node.members.get(peer)
        said = view.announcement.name if view is not None else self._names.get(peer)
        return said or peer[:8]

    async def _look_after_peers(self) -> None:
        """End the tunnels of a split's peer once it is a member no more: dead, or it has left."""
        while True:
            await asyncio.sleep(PEERS_PERIOD_S)
            used = {*self._ports.values(), *self._hosts.values()}
            present = {peer for peer in used if self._driver.node.members.get(peer) is not None}
            for peer in (self._seen & used) - present:
                if self._process is not None:
                    self._process.drop_peer(peer)
            self._seen = present
            self._names = {peer: name for peer, name in self._names.items() if peer in used}

    def _reported(self, report: cw.Report) -> None:
        lines = lane_lines(report)
        if lines != self._lines:
            self._lines = lines
            self._driver.post(LaneSampled(lines))


def _files(model: ModelFacts) -> tuple[str, ...]:
    """Return what a member may fetch of a model: its parts, and a projector that bears its name."""
    projector = model.mmproj_path
    named = projector is not None and projector_family(Path(projector).name)
    return (*model.shards, projector) if projector and named else model.shards
