"""The whole map of `snapshot`, from a node's parts: its own entries, the others', what joins them. PURE."""

from nodes.mesh.announcement import Announcement
from nodes.mesh.duties import Duties
from nodes.mesh.members import Members
from nodes.mesh.models_view import complete
from nodes.mesh.own_facts import OwnFacts
from nodes.mesh.serving import Serving
from nodes.mesh.snapshot import State
from nodes.mesh.split_view import show_lanes, show_memory, split_entry
from nodes.mesh.view import Me, state_map


def whole_state(
    me: Me,
    serving: Serving,
    members: Members,
    own: OwnFacts,
    duties: Duties,
    said: Announcement,
    clock_offset_s: float,
) -> State:
    """Return what viewers see now; `said` is what this node says of itself."""
    state = state_map(me, serving)
    state["split"] = split_entry(me.node_id, serving, duties.lane, duties.works_for)
    state.update(members.entries(clock_offset_s))
    show_lanes(state, duties.lane)
    words = {view.node_id: view.announcement for view in members.present()}
    show_memory(state, me.node_id, {**words, me.node_id: said})
    complete(state, me.node_id, own, members, duties.tombstones.dropped)
    return state
