"""What the lane's own report says of each peer, for status and console. Pure."""

from models_registry.rpc import control_words as cw
from models_registry.rpc.counters import LoadCounters
from nodes.mesh.events import LaneLine
from nodes.mesh.ids import NodeId
from nodes.runtime.lane.channel import Via
from nodes.runtime.lane.lane import PeerStatus


def lane_lines(report: cw.Report) -> tuple[LaneLine, ...]:
    """Return a line for each peer of a split, as its host and as its worker together, by id."""
    loads: dict[str, list[LoadCounters]] = {}
    parts: list[cw.PortReport | cw.ServerReport] = [*report.ports, *report.servers]
    for part in parts:
        loads.setdefault(part.peer, []).append(part.load)
    peers = {status.peer: status for status in report.peers}
    return tuple(
        _line(NodeId(peer), found, peers.get(NodeId(peer))) for peer, found in sorted(loads.items())
    )


def _line(peer: NodeId, loads: list[LoadCounters], status: PeerStatus | None) -> LaneLine:
    return LaneLine(
        peer=peer,
        via=_via(status),
        bytes_sent=sum(load.sent_bytes for load in loads),
        bytes_saved=sum(load.weights_saved_bytes for load in loads),
        bytes_per_s=_bytes_per_s(status),
        loaded_bytes=sum(_loaded_bytes(load) for load in loads),
        expected_bytes=sum(load.expected_bytes for load in loads),
    )


def _via(status: PeerStatus | None) -> str:
    """Return what carries its tunnels now, or did last."""
    if status is None:
        return str(Via.LANE)
    if status.via is not None:
        return str(status.via)
    return str(Via.QUIC if status.quic.sent_bytes and not status.lane.sent_bytes else Via.LANE)


def _bytes_per_s(status: PeerStatus | None) -> float:
    if status is None:
        return 0.0
    ways = (status.lane, status.quic)
    # Whole numbers: what trembles behind the point would be a change each time it is looked at.
    return float(round(sum(way.sent_bytes_per_s + way.received_bytes_per_s for way in ways)))


def _loaded_bytes(load: LoadCounters) -> int:
    """Return how much of the worker's share is there; where weights are not recognised, by what went."""
    found = load.sent_bytes if load.recognition else load.seen_bytes
    return min(found, load.expected_bytes) if load.expected_bytes else found
