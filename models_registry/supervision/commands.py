"""What the supervisor asks of the installed engine: command lines and an environment, nothing else."""

from collections.abc import Sequence
from typing import Protocol

from nodes.mesh.plans import ServerPlan


class EngineCommands(Protocol):
    """The command lines of one installed engine. Pure: nothing is started or looked up."""

    def server_argv(self, plan: ServerPlan, *, port: int, rpc: Sequence[str] = ()) -> list[str]:
        """Return the llama-server command line for this plan on this loopback port."""
        ...

    def rpc_argv(self, *, port: int) -> list[str] | None:
        """Return the rpc-server command line, or None when this build has no rpc-server."""
        ...

    def env(self) -> dict[str, str]:
        """Return the whole environment of the engine's processes."""
        ...
