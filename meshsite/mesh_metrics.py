"""The mesh's Prometheus metrics: members by state, what peer link and gossip counted, how drafts guess.

Made when asked for, from numbers that their owners keep anyway; labels are words of ours and the models
that run here (at most `supervisor.MAX_RUNS`), never names that other machines make up.
"""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshsite.side import Side
from nodes.mesh.members import shown_state
from nodes.runtime.driver import Driver


def register(registry: CollectorRegistry, driver: Driver, mesh: Side) -> None:
    """Have the mesh's metrics in this registry too: one page, the same on both ports."""
    registry.register(_MeshCollector(driver, mesh))


class _MeshCollector(Collector):
    def __init__(self, driver: Driver, mesh: Side) -> None:
        self._driver = driver
        self._mesh = mesh

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        node = self._driver.node
        members = GaugeMetricFamily(
            "mesh_llm_members", "Other nodes in the table.", labels=["state"]
        )
        states = Counter(shown_state(view) for view in node.members.present())
        for state in ("alive", "late", "suspect"):
            members.add_metric([state], states[state])
        yield members
        link = CounterMetricFamily(
            "mesh_llm_peer_link", "What the peer link did and refused.", labels=["what"]
        )
        for what, count in self._mesh.transport.counters.snapshot().items():
            link.add_metric([what], count)
        yield link
        gossip = CounterMetricFamily(
            "mesh_llm_gossip", "What gossip refused or dropped.", labels=["what"]
        )
        counters = node.gossip.counters if node.gossip else {}
        for what, count in sorted(counters.items()):
            gossip.add_metric([what], count)
        yield gossip
        drafts = CounterMetricFamily(
            "mesh_llm_draft_tokens",
            "Tokens that a draft model guessed, and those of them that were right.",
            labels=["model", "what"],
        )
        for name, slot in node.serving.slots.items():
            if slot.run is not None and slot.run.drafted is not None:
                drafts.add_metric([name, "guessed"], slot.run.drafted.guessed)
                drafts.add_metric([name, "accepted"], slot.run.drafted.accepted)
        yield drafts
        yield GaugeMetricFamily(
            "mesh_llm_peer_connections", "Open QUIC connections.", self._mesh.transport.connections
        )
