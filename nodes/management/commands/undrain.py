"""`mesh-llm undrain [NODE]`."""

from nodes.management.node_command import MachineCommand


class Command(MachineCommand):
    """Let a drained machine serve again."""

    word = "undrain"
    help = "Let a drained machine serve again."
