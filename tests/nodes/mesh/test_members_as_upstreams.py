"""The other nodes' engines as routing sees them: how far a machine is, whatever it is busy with."""

from nodes.mesh.announcement import Announcement, ServedModelLine
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.members import Members
from nodes.mesh.routing import Candidates, Standing
from nodes.mesh.routing_live import Figures, HostLive
from nodes.mesh.routing_order import order
from tests.nodes.mesh.offers_lab import node_id


def view(name: str, rtt_s: float, rtt_least_s: float) -> MemberView:
    """Return a host of one model that nobody has asked yet."""
    said = Announcement(name=name, serving=(ServedModelLine("tiny", "ready", slots=4),))
    return MemberView(node_id(name), MemberState.ALIVE, False, 1, 1, said, rtt_s, b"", rtt_least_s)


def asked_first(*views: MemberView) -> set[NodeId]:
    """Return who comes first in some of the orders of idle hosts."""
    members = Members()
    members.take(views, 0.0)
    upstreams = tuple(members.upstreams())
    found = Candidates(ModelName("tiny"), upstreams, (Standing.ABLE,) * len(upstreams))

    def figures(upstream: object) -> Figures:
        return HostLive().figures(upstream, 1.0)  # type: ignore[arg-type]

    orders = (order(found, figures, frozenset(), None, number) for number in range(16))
    return {places[0].upstream.node_id for places in orders}


def test_host_whose_first_probes_were_late_is_asked_like_the_other() -> None:
    both = asked_first(view("a", 0.002, 0.001), view("b", 0.120, 0.001))
    assert both == {node_id("a"), node_id("b")}


def test_host_that_is_far_away_comes_second() -> None:
    assert asked_first(view("a", 0.002, 0.001), view("b", 0.120, 0.110)) == {node_id("a")}
