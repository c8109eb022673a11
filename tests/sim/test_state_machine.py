"""Hypothesis plays operator and fate on three to five nodes; afterwards everyone agrees again."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from nodes.mesh.gossip_events import PeerUseFailed
from tests.sim.cluster import Cluster
from tests.sim.parts import Faults


class SmallMesh(RuleBasedStateMachine):
    """Kills, restarts, newcomers, stalls, partitions, failed requests and leaves in any order."""

    @initialize(size=st.integers(3, 5), seed=st.integers(0, 999), loss=st.sampled_from((0.0, 0.05)))
    def build(self, size: int, seed: int, loss: float) -> None:
        self.cluster = Cluster(size, seed, Faults(loss=loss), warm=False)
        self.cluster.run(5)

    @rule(seconds=st.sampled_from((0.1, 1.0, 4.0)))
    def wait(self, seconds: float) -> None:
        self.cluster.run(seconds)

    @precondition(lambda self: len(self.cluster.nodes) > 2)
    @rule(pick=st.integers(0, 9), silent=st.booleans())
    def kill(self, pick: int, silent: bool) -> None:
        self.cluster.network.kill(self.cluster.nodes[pick % len(self.cluster.nodes)], silent)

    @precondition(lambda self: any(not n.alive for n in self.cluster.network.nodes.values()))
    @rule(wall_error_s=st.sampled_from((0.0, -600.0)))
    def restart(self, wall_error_s: float) -> None:
        gone = [n for n in self.cluster.network.nodes.values() if not n.alive]
        self.cluster.restart(gone[0].name, 0.0, wall_error_s)

    @rule(pick=st.integers(0, 9), seconds=st.floats(0.2, 1.2))
    def stall(self, pick: int, seconds: float) -> None:
        self.cluster.network.pause(self.cluster.nodes[pick % len(self.cluster.nodes)], seconds)

    @rule(cut=st.integers(1, 4))
    def partition(self, cut: int) -> None:
        self.cluster.partition(self.cluster.nodes[:cut], self.cluster.nodes[cut:])

    @rule(a=st.integers(0, 9), b=st.integers(0, 9))
    def one_way(self, a: int, b: int) -> None:
        nodes = self.cluster.nodes
        self.cluster.network.cut.add((nodes[a % len(nodes)].index, nodes[b % len(nodes)].index))

    @precondition(lambda self: len(self.cluster.network.nodes) < 8)
    @rule()
    def newcomer(self) -> None:
        self.cluster.restart(f"n{len(self.cluster.network.nodes):04d}")

    @precondition(lambda self: len(self.cluster.nodes) > 1)
    @rule(pick=st.integers(0, 9), whom=st.integers(1, 9))
    def a_request_fails(self, pick: int, whom: int) -> None:
        nodes = self.cluster.nodes
        node, peer = nodes[pick % len(nodes)], nodes[(pick + whom) % len(nodes)]
        self.cluster.network.give(node, PeerUseFailed(peer.node_id))

    @rule()
    def heal(self) -> None:
        self.cluster.heal()

    @precondition(lambda self: len(self.cluster.nodes) > 2)
    @rule(pick=st.integers(0, 9))
    def leave(self, pick: int) -> None:
        self.cluster.leave(self.cluster.nodes[pick % len(self.cluster.nodes)])

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            self.cluster.heal()
            self.cluster.run(100)
            assert self.cluster.checkers.settle() == [], self.cluster.stories()


SmallMesh.TestCase.settings = settings(
    max_examples=15, stateful_step_count=12, deadline=None, derandomize=True, phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
TestSmallMesh = SmallMesh.TestCase
