"""A model's files from another member, before they are downloaded: who has them, and getting them.

Decides whom to ask, nearest first, and that a member which cannot give is no reason to give up: the next
is asked, and then the hub. Finding a model on this node's own disk comes before, and is `resolve`'s.
"""

import asyncio
import logging
from pathlib import Path
from weakref import WeakValueDictionary

from meshsite.lane_side import LaneSide
from models_registry.progress import OnProgress, Progress
from models_registry.supervision.split_lane import SplitFault
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.members import Members
from nodes.mesh.routing import match_name

log = logging.getLogger("mesh.node")

SETTLE_S = 5.0
"""How long a node that has just started, and has a mesh to find, waits for somebody who has the model: less
than the first percent of its download."""
ENGINE_WAIT_S = 30.0
"""For the engine to be looked for: the lane is started beside it."""
POLL_S = 0.1
HOLDERS_MAX = 3
"""Members asked one after another."""


class PeerModels:
    """The other members' disks, as a place to get a model from."""

    def __init__(
        self,
        lane: LaneSide,
        members: Members,
        folder: Path,
        engine_looked_for: asyncio.Event,
        expects_members: bool,
    ) -> None:
        """`expects_members`: whether there is a mesh to come into, beyond this node."""
        self._lane = lane
        self._members = members
        self._folder = folder
        self._engine_looked_for = engine_looked_for
        self._expects_members = expects_members
        self._made_s = asyncio.get_running_loop().time()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One for each model that is being brought."""

    async def bring(self, name: str, on_progress: OnProgress) -> bool:
        """Return whether the model `name` is now on this node's disk, fetched from a member.

        False: nobody has it, or nobody could give it; the reasons are logged.

        Raises:
            SplitFault: the node is stopping.
        """
        # Two that ask for one model would be two transfers of it.
        async with self._locks.setdefault(name, asyncio.Lock()):
            for holder, found in (await self._holders(name))[:HOLDERS_MAX]:
                if await self._from(holder, found, on_progress):
                    return True
        return False

    async def _from(self, holder: MemberView, name: str, on_progress: OnProgress) -> bool:
        who = holder.announcement.name or holder.node_id[:8]

        def progressed(at: Progress) -> None:
            phase = f"fetching from {who}" if at.phase == "downloading" else at.phase
            on_progress(Progress(at.name, phase, at.done_bytes, at.total_bytes))

        on_progress(Progress(name, f"fetching from {who}"))
        try:
            await self._lane.fetch(holder.node_id, name, self._folder, progressed)
        except SplitFault as fault:
            if self._lane.is_closed:
                raise
            log.warning("%s does not come from %s: %s.", name, who, str(fault).rstrip("."))
            return False
        log.info("%s was fetched from %s.", name, who)
        return True

    async def _holders(self, name: str) -> list[tuple[MemberView, str]]:
        """Return who has the model on disk, nearest first, and what it is called there."""
        clock = asyncio.get_running_loop().time
        by_s = self._made_s + SETTLE_S if self._expects_members else 0.0
        while not (found := self._who_has(name)) and clock() < by_s:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        try:
            async with asyncio.timeout(ENGINE_WAIT_S):
                await self._engine_looked_for.wait()
        except TimeoutError:
            return []
        return found

    def _who_has(self, name: str) -> list[tuple[MemberView, str]]:
        found = []
        for view in self._members.present():
            names = match_name(name, (line.name for line in view.announcement.on_disk))
            if len(names) == 1 and view.state is MemberState.ALIVE:
                found.append((view, names[0]))
        far_s = float("inf")
        return sorted(
            found,
            key=lambda one: (one[0].rank_last, far_s if one[0].rtt_s is None else one[0].rtt_s),
        )
