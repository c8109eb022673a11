"""`mesh-llm restart MODEL`."""

from nodes.management.node_command import ModelCommand


class Command(ModelCommand):
    """Start a model's engine afresh."""

    word = "restart"
    help = "Start a model's engine afresh."
