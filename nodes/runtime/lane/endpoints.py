"""Where peers listen for the lane, and when TCP to one of them is tried again. Pure: times are handed in.

Decides nothing about which peer to talk to. Addresses are learnt over the peer link (`lane_address`).
"""

from dataclasses import dataclass, field

from nodes.mesh.ids import NodeId
from nodes.runtime.lane.settings import LaneSettings

PEERS_MAX = 1024
"""Peers remembered; at the bound the one set longest ago is forgotten and reached by QUIC."""


@dataclass(frozen=True, slots=True)
class LaneEndpoint:
    """A host and a TCP port. `host` is an address, as the peer link knows it, or a name."""

    host: str
    port: int


@dataclass(slots=True)
class _Path:
    endpoint: LaneEndpoint
    retry_at_s: float = 0.0
    retry_pause_s: float = 0.0
    fault: str = ""


@dataclass(slots=True)
class Endpoints:
    """The paths to all peers."""

    settings: LaneSettings
    _paths: dict[NodeId, _Path] = field(default_factory=dict)

    def set(self, peer: NodeId, endpoint: LaneEndpoint | None) -> None:
        """A peer listens there now; None: nowhere. A new place is tried at once, whatever failed before."""
        known = self._paths.get(peer)
        if endpoint is None:
            self._paths.pop(peer, None)
        elif known is None or known.endpoint != endpoint:
            self._paths.pop(peer, None)
            self._paths[peer] = _Path(endpoint)
            while len(self._paths) > PEERS_MAX:
                del self._paths[next(iter(self._paths))]

    def to_try(self, peer: NodeId, now_s: float) -> LaneEndpoint | None:
        """Return where to dial now; None: nowhere known, or it failed too recently."""
        path = self._paths.get(peer)
        return path.endpoint if path is not None and now_s >= path.retry_at_s else None

    def retry_in_s(self, peer: NodeId, now_s: float) -> float | None:
        """Return how long until TCP may be tried; None: there is no place to try."""
        path = self._paths.get(peer)
        return None if path is None else max(0.0, path.retry_at_s - now_s)

    def failed(self, peer: NodeId, endpoint: LaneEndpoint, fault: str, now_s: float) -> None:
        """TCP did not get through; `fault` is one word."""
        path = self._paths.get(peer)
        if path is None or path.endpoint != endpoint or now_s < path.retry_at_s:
            return  # several dials at a time fail as one
        first, longest = self.settings.retry_first_s, self.settings.retry_longest_s
        path.retry_pause_s = min(path.retry_pause_s * 2 or first, longest)
        path.retry_at_s = now_s + path.retry_pause_s
        path.fault = fault

    def succeeded(self, peer: NodeId, endpoint: LaneEndpoint) -> None:
        """TCP got through."""
        path = self._paths.get(peer)
        if path is not None and path.endpoint == endpoint:
            path.retry_at_s = path.retry_pause_s = 0.0
            path.fault = ""

    def fault(self, peer: NodeId) -> str:
        """Return why TCP does not get through; empty: it did, or was not tried, or has no place."""
        path = self._paths.get(peer)
        return path.fault if path is not None else ""
