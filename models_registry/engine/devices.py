"""The compute devices that the installed engine itself lists: the only ones the mesh may plan with.

Source: `llama-server --list-devices`. Not cached: the free memory changes, and the whole command
takes 40 ms without a GPU (most of it loading the backends).
"""

import re

from models_registry.engine.probe import Engine, run_engine
from nodes.mesh.resources import Device

LIST_TIMEOUT_S = 15.0
"""A CUDA or ROCm driver that wakes up takes seconds; one that hangs must not hold the node."""
MIB = 1024 * 1024
_LINE = re.compile(r"^\s+(\S+): (.*) \((\d+) MiB, (\d+) MiB free\)\s*$")


def parse_devices(text: str) -> tuple[Device, ...]:
    """Return the listed devices in the engine's order; empty when it has none but the CPU.

    Devices without memory of their own (BLAS) and the CPU itself are left out: their memory is the
    machine's RAM, which is counted apart.
    """
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("Available devices")), None)
    if start is None:
        return ()
    matches = (_LINE.match(line) for line in lines[start + 1 :])
    return tuple(
        Device(m[1], m[2].strip(), int(m[3]) * MIB, int(m[4]) * MIB)
        for m in matches
        if m and int(m[3]) > 0 and m[1] != "CPU"
    )


def list_devices(engine: Engine) -> tuple[Device, ...]:
    """Return the devices this engine can use now; empty also for a build that cannot list them.

    Blocks for up to `LIST_TIMEOUT_S`: call it off the loop.

    Raises:
        EngineBroken: the engine crashed or hung while asking its drivers.
    """
    if engine.flags.list_devices is None:
        return ()
    argv = [engine.facts.server_path, engine.flags.list_devices]
    return parse_devices(run_engine(argv, timeout_s=LIST_TIMEOUT_S))
