"""What a whole node does not show: the changes of its table, worked out from the table itself."""

from typing import Any

from nodes.mesh.gossip_effects import MemberState, MemberView, PublishMembers
from tests.sim.parts import SimNode


def swallowed(node: SimNode, effects: list[Any]) -> list[Any]:
    """Return the effects with the `PublishMembers` that a node around a `GossipNode` kept to itself.

    Costs a look at the whole table for each event: for small meshes.
    """
    if any(isinstance(effect, PublishMembers) for effect in effects):
        return effects
    now = {view.node_id: view for view in node.gossip.members()}
    changed: list[MemberView] = [v for i, v in now.items() if node.views.get(i) != v]
    for node_id, view in node.views.items():
        if node_id not in now:
            held = node.gossip._core.dead.get(node_id)
            left = held is not None and held.left
            changed.append(_ended(view, MemberState.LEFT if left else MemberState.DEAD))
    return [*effects, PublishMembers(tuple(changed))] if changed else effects


def _ended(view: MemberView, state: MemberState) -> MemberView:
    return MemberView(
        view.node_id, state, True, view.incarnation, view.version, view.announcement,
        view.rtt_s, view.load, view.rtt_least_s,
    )  # fmt: skip
