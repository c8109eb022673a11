"""What runs of engines ask of the lane for the sake of a split. The node's room for it implements this.

Nothing here knows how bytes travel: local ports that lead to workers, and who may reach an rpc-server.
"""

from collections.abc import Sequence
from typing import Protocol

from nodes.mesh.plans import ServerPlan, WorkerPlan


class SplitFault(Exception):
    """The lane cannot do it. The text is a clause for people that names the node."""


class SplitLane(Protocol):
    """The lane, as host and as worker. All calls on the node's loop."""

    async def open(self, plan: ServerPlan) -> tuple[int, ...]:
        """Return local ports that lead to the workers' rpc-servers, in the plan's order.

        Nobody may connect to them before `name_client`. Raises: SplitFault.
        """
        ...

    def name_client(self, ports: Sequence[int], pid: int) -> None:
        """Only this process may connect to these ports. Call right after its spawn."""
        ...

    def close_ports(self, ports: Sequence[int]) -> None:
        """Have these ports closed, and what goes through them. Nobody waits for it."""
        ...

    async def admit(self, plan: WorkerPlan, port: int) -> None:
        """Let the plan's host, in its term, reach the rpc-server on this port. Raises: SplitFault."""
        ...

    def withdraw(self, port: int) -> None:
        """Let nobody reach that rpc-server any more."""
        ...


class NoLane:
    """A node without a lane, such as a passive client or one in no mesh."""

    async def open(self, plan: ServerPlan) -> tuple[int, ...]:
        """Raises: SplitFault."""
        raise SplitFault("this node is in no mesh, so it has no workers")

    def name_client(self, ports: Sequence[int], pid: int) -> None:
        """There are no ports."""

    def close_ports(self, ports: Sequence[int]) -> None:
        """There are no ports."""

    async def admit(self, plan: WorkerPlan, port: int) -> None:
        """Raises: SplitFault."""
        raise SplitFault("this node is in no mesh, so nobody can be let in")

    def withdraw(self, port: int) -> None:
        """Nobody was let in."""
