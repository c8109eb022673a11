"""Machines that knocked with a good token and wait for the operator's word (`--approve`).

Decides who may be let in now; the join desk asks. Kept in memory: who waits asks again by itself, and an
approval is for the next knock. Bounded; the one that waits longest without asking goes first.
"""

import time
from collections.abc import Callable
from typing import Any

from nodes.mesh.ids import NodeId
from nodes.runtime.join_messages import JoinRequest
from nodes.runtime.token_errors import JoinRejectedError

WAITING_MAX = 64
WAITING_S = 600.0
"""Who has not asked for so long is no longer waiting."""
APPROVED_MAX = 256
REJECTED_S = 600.0
"""How long a machine that was turned away is told so; one that asks after that waits anew."""
REJECTED_MAX = 256
"""Machines turned away that are remembered; the one turned away first is forgotten first."""


class Approvals:
    """Who waits, and who may come."""

    def __init__(
        self,
        needed: bool,
        on_change: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`needed` False: every machine with a good token may come."""
        self.needed = needed
        self._on_change = on_change
        self._now_s = now_s
        self._waiting: dict[NodeId, tuple[dict[str, Any], float]] = {}
        self._approved: dict[NodeId, None] = {}
        self._rejected: dict[NodeId, float] = {}

    def ask(self, node_id: NodeId, request: JoinRequest) -> bool:
        """Return whether this machine may come in; if not, it waits from now on.

        Raises:
            JoinRejectedError: an operator has turned it away.
        """
        if not self.needed or node_id in self._approved:
            if self._waiting.pop(node_id, None) is not None:
                self._on_change()
            return True
        known = self._waiting.pop(node_id, None)
        now_s = self._now_s()
        if now_s - self._rejected.get(node_id, -REJECTED_S) < REJECTED_S:
            raise JoinRejectedError
        entry = known[0] if known else _entry(node_id, request, now_s)
        self._waiting[node_id] = (entry, now_s)
        if len(self._waiting) > WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        if known is None:
            self._on_change()
        return False

    def approve(self, node_id: NodeId) -> dict[str, Any] | None:
        """Let a waiting machine in at its next knock; None: it does not wait."""
        found = self._waiting.pop(node_id, None)
        if found is None:
            return None
        self._approved[node_id] = None
        self._rejected.pop(node_id, None)
        if len(self._approved) > APPROVED_MAX:
            del self._approved[next(iter(self._approved))]
        self._on_change()
        return found[0]

    def reject(self, node_id: NodeId) -> dict[str, Any] | None:
        """Turn a waiting machine away: it is told so at its next knock; None: it does not wait."""
        found = self._waiting.pop(node_id, None)
        if found is None:
            return None
        self._rejected.pop(node_id, None)
        self._rejected[node_id] = self._now_s()
        if len(self._rejected) > REJECTED_MAX:
            del self._rejected[next(iter(self._rejected))]
        self._on_change()
        return found[0]

    def waiting(self) -> tuple[dict[str, Any], ...]:
        """Return who waits now, longest first: the ``pending/`` entries of `nodes.mesh.snapshot`."""
        oldest = self._now_s() - WAITING_S
        self._waiting = {i: w for i, w in self._waiting.items() if w[1] > oldest}
        return tuple(sorted((w[0] for w in self._waiting.values()), key=lambda e: e["since"]))


def _entry(node_id: NodeId, request: JoinRequest, now_s: float) -> dict[str, Any]:
    return {
        "id": node_id,
        "name": request.name or node_id[:8],
        "software": request.software,
        "address": "",
        "since": round(now_s, 1),
    }
