"""`mesh-llm drain [NODE]`."""

from nodes.management.node_command import MachineCommand


class Command(MachineCommand):
    """Let a machine serve nothing, after its open answers, until it is undrained or started again."""

    word = "drain"
    help = "Let a machine serve nothing, after its open answers, until it is undrained or started again."
