"""`mesh-llm drop MODEL`."""

from nodes.management.node_command import ModelCommand


class Command(ModelCommand):
    """Stop serving a model; open answers may finish."""

    word = "drop"
    help = "Stop serving a model; open answers may finish."
