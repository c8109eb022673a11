"""`mesh-llm stop`."""

from typing import Any

from nodes.management.node_command import NodeCommand


class Command(NodeCommand):
    """Stop the running node in good order."""

    help = "Stop the running node in good order."

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the node and print the outcome."""
        self.act("stop", {}, options["port"])
