"""`mesh-llm drop MODEL`."""

from argparse import ArgumentParser
from typing import Any

from nodes.management.node_command import NodeCommand


class Command(NodeCommand):
    """Stop serving a model; open answers may finish."""

    help = "Stop serving a model; open answers may finish."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the model."""
        super().add_arguments(parser)
        parser.add_argument("model")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the node and print the outcome."""
        self.act("drop", {"model": options["model"]}, options["port"])
