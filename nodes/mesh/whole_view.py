"""The whole map of `snapshot`, from a node's parts: its own entries, the others', what joins them. PURE."""

from collections.abc import Callable

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
    said: Callable[[], Announcement],
    clock_offset_s: float,
) -> State:
    """Return what viewers see now; `said` makes what this node says of itself, where that is needed."""
    state = state_map(me, serving)
    state["split"] = split_entry(me.node_id, serving, duties.lane, duties.works_for)
    state.update(members.entries(clock_offset_s))
    show_lanes(state, duties.lane)
    hosts = {v.node_id: v.announcement for v in members.present() if v.announcement.splits}
    if duties.words.splits:
        hosts[me.node_id] = said()
    show_memory(state, me.node_id, hosts)
    complete(state, me.node_id, own, members, duties.tombstones.dropped)
    return state
