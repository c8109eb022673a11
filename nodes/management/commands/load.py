"""`mesh-llm load MODEL`."""

from argparse import ArgumentParser
from typing import Any

from nodes.management.node_command import NodeCommand


class Command(NodeCommand):
    """Serve a model: a path, a stem on disk, a catalogue name or org/repo/file.gguf."""

    help = "Serve a model: a path, a stem on disk, a catalogue name or org/repo/file.gguf."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the model."""
        super().add_arguments(parser)
        parser.add_argument("model")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the node and print the outcome."""
        self.act("load", {"model": options["model"]}, options["port"])
