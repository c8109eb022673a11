"""What the supervisor asks of the installed engine: command lines and an environment, nothing else."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from models_registry.engine.probe import Engine
from models_registry.launch import engine_env, rpc_argv, server_argv, threads_for
from models_registry.rpc_cache import prune
from nodes.mesh.plans import ServerPlan


class EngineCommands(Protocol):
    """The command lines of one installed engine. Nothing is started or looked up.

    Both raise `models_registry.launch.Unsupported` when this build lacks what is wanted.
    """

    def server_argv(self, plan: ServerPlan, *, port: int, rpc: Sequence[str] = ()) -> list[str]:
        """Return the llama-server command line for this plan on this loopback port."""
        ...

    def rpc_argv(self, *, port: int) -> list[str]:
        """Return the rpc-server command line."""
        ...

    def env(self) -> dict[str, str]:
        """Return the whole environment of the engine's processes."""
        ...

    def tidy(self) -> None:
        """Hold what they leave on the disk within bounds. Blocks."""
        ...


class LaunchCommands:
    """The commands of a probed engine on this machine, made by `models_registry.launch`."""

    def __init__(
        self, engine: Engine, devices: Sequence[str] = (), cache_dir: Path | None = None
    ) -> None:
        """`devices`: what the engine may use of this machine; none: its processor. `cache_dir`: where
        rpc-servers keep tensors; None: nowhere of ours."""
        self._cache_dir = cache_dir
        self._engine = engine
        self._devices = tuple(devices)
        self._threads = threads_for(os.cpu_count() or 1)

    def server_argv(self, plan: ServerPlan, *, port: int, rpc: Sequence[str] = ()) -> list[str]:
        """Return the llama-server command line for this plan on this loopback port."""
        return server_argv(
            self._engine, plan, port=port, threads=self._threads, rpc=rpc,
            has_devices=bool(self._devices),
        )  # fmt: skip

    def rpc_argv(self, *, port: int) -> list[str]:
        """Return the rpc-server command line."""
        # A device each: a host gives its layers by the rpc-server, and one with two would take two shares.
        device = self._devices[0] if self._devices else None
        return rpc_argv(self._engine, port=port, threads=self._threads, device=device)

    def env(self) -> dict[str, str]:
        """Return the whole environment of the engine's processes."""
        return engine_env(os.environ, cache_dir=str(self._cache_dir) if self._cache_dir else None)

    def tidy(self) -> None:
        """Hold what they leave on the disk within bounds. Blocks."""
        if self._cache_dir is not None:
            prune(self._cache_dir)
