"""One seed, one story of machines that share a model too big for most of them, with random faults.

What must hold beside what holds for every mesh that serves: nobody computes with its own engine while it
lends its memory; when things have come to rest, a model that the group could serve is served, once where it
is split, and every worker lends itself to exactly the host that counts on it.
"""

from collections.abc import Callable

from nodes.mesh.election import Mode, elect
from nodes.mesh.ids import ModelName
from nodes.mesh.offers import MeshSnapshot, offer_of
from nodes.mesh.placement import ServingOptions
from nodes.mesh.reconcile import RunState
from nodes.mesh.split_faults import HOLD_OUT_S
from tests.sim.parts import SimNode
from tests.sim.serving_swarm import ServingSwarm
from tests.sim.serving_world import Box, lends, mesh_node

BIG = ModelName("E")
BIG_GB = 20.0


class SplitSwarm(ServingSwarm):
    """The run of one seed."""

    REST_S = HOLD_OUT_S[-1] + 120.0
    """A worker that flapped to the last step may be held out for so long."""

    def actions(self) -> list[Callable[[], str]]:
        """Return what may happen, the usual more often."""
        return [
            self._kill, self._kill, self._restart, self._restart, self._restart, self._newcomer,
            self._stall, self._partition, self._stop, self._crash, self._end_worker, self._end_worker,
            self._use, self._use,
        ]  # fmt: skip

    def _newcomer(self) -> str:
        rng = self._rng
        name, self._next = f"n{self._next:04d}", self._next + 1
        wants = name == "n0000" or rng.random() < 0.6
        has = wants or rng.random() < 0.3
        box = Box(
            memory=rng.choice((8.0, 12.0, 16.0, 30.0)),
            own=(BIG,) if wants else (),
            disk={BIG: BIG_GB} if has else {},
            options=ServingOptions(force_split=rng.random() < 0.2),
        )
        self.world.start(name, box)
        self._disturb()
        return f"start {name}: {box.memory} GB{' wants' if wants else ' has' if has else ''} it" + (
            " --split" if box.options.force_split else ""
        )

    def _end_worker(self) -> str:
        lending = [n for n in self.world.cluster.nodes if lends(n) is not None]
        if not lending:
            return "no rpc-server to end"
        node = self._rng.choice(lending)
        lent = lends(node)
        assert lent is not None
        self.world.engines.end_worker(node, lent.run_id)
        return f"the rpc-server of {node.name} ends"

    def _use(self) -> str:
        for node in self.world.cluster.nodes:
            slot = mesh_node(node).serving.slots.get(BIG)
            if slot is not None and slot.run is not None and slot.run.state is RunState.READY:
                self.world.engines.use(node, BIG)
        return "somebody uses it"

    # --- what must hold ----------------------------------------------------------------------------

    def _sweep(self) -> None:
        super()._sweep()
        for node in self.world.cluster.nodes:
            slots = mesh_node(node).serving.slots.values()
            if lends(node) is not None and any(slot.run for slot in slots):
                self._find(f"{node.name} computes for itself while its memory is lent")

    def _settle(self) -> None:
        super()._settle()
        nodes = self.world.cluster.nodes
        offers = {n.node_id: offer_of(n.node_id, mesh_node(n).announcement()) for n in nodes}
        ready = {}
        for node in nodes:
            slot = mesh_node(node).serving.slots.get(BIG)
            if slot is not None and slot.run is not None and slot.run.state is RunState.READY:
                ready[node.name] = slot.run
        counted: dict[str, SimNode] = {}
        for name, run in ready.items():
            for seat in run.seats[1:]:
                counted[seat.node_id] = self.world.cluster.node(name)
        for node in nodes:
            lent = lends(node)
            host = counted.get(node.node_id)
            if (lent.host if lent else None) != (host.node_id if host else None):
                self._find(f"{node.name} lends itself to {lent}, and {host} counts on it")
        split = [name for name, run in ready.items() if run.seats]
        if len(split) > 1 or (split and len(ready) > 1):
            self._find(f"it is split by {split} and served by {sorted(ready)}")
        for node in nodes[:1]:
            wished = elect(MeshSnapshot(node.node_id, offers), BIG)
            if wished.mode in (Mode.SOLO, Mode.SPLIT) and not ready:
                self._find(f"nobody serves it though it could be: {wished.text}")
