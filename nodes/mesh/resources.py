"""What this machine has, as sampled by `nodes.runtime.resources`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """One compute device that the installed engine itself lists (`llama-server --list-devices`)."""

    name: str
    """The engine's name of it, such as ``CUDA0``."""
    description: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class UnusableGpu:
    """A GPU that is in the machine but that the installed engine cannot use: said loudly, never offered."""

    description: str
    remedy: str
    """One sentence: what to install so that it counts."""


@dataclass(frozen=True, slots=True)
class Resources:
    """One sample of the machine. `offered_bytes` is what the mesh may plan with."""

    offered_bytes: int
    """Memory offered to models: devices' memory, or 75 % of RAM without one, lowered by `--max-vram`."""
    ram_total_bytes: int
    ram_available_bytes: int
    cpu_count: int
    cpu_percent: float
    """0 to 100 over all cores."""
    process_rss_bytes: int
    """This node's own process, without the engine."""
    engine_rss_bytes: int
    """Its engine processes together."""
    devices: tuple[Device, ...] = ()
    unusable: tuple[UnusableGpu, ...] = ()
