"""`mesh-llm status`: what the running node serves, for people or as JSON."""

import json
from argparse import ArgumentParser
from typing import Any

from nodes.management.node_command import NodeCommand


class Command(NodeCommand):
    """Show the running node and what it serves."""

    help = "Show the running node and what it serves."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the output's form."""
        super().add_arguments(parser)
        parser.add_argument("--json", action="store_true", help="the document of GET /api/status")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the node and print."""
        _, found = self.ask("status", None, options["port"])
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2))
            return
        for line in _lines(found):
            self.stdout.write(line)


def _lines(found: dict[str, Any]) -> list[str]:
    console = f", console on :{found['console_port']}" if found["console_port"] else ""
    lines = [
        f"{found['name']} ({found['node_id'][:12]}), mesh-llm {found['version']}: "
        f"{found['role']}, {found['state']}",
        f"API on :{found['api_port']}{console}",
        f"Offers {found['my_vram_gb']:.1f} GB, the mesh {found['mesh_vram_gb']:.1f} GB; "
        f"{len(found['peers'])} peers; engine {found['engine']['version'] or 'missing'}, "
        f"{found['engine']['starts']} starts",
    ]
    for model in found["mesh_models"]:
        why = f": {model['reason']}" if model["reason"] else ""
        lines.append(f"  {model['status']:8} {model['name']}{why}")
    return lines
