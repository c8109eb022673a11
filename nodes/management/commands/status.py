"""`mesh-llm status`: the mesh as the running node sees it, as a table, as JSON, or live."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nodes.management.node_command import NodeCommand

WATCH_INTERVAL_S = 1.0
PIPE_WIDTH = 200
"""Columns where the output is no terminal: names are not cut there."""
STYLES = {"alive": "green", "warm": "green", "ready": "green", "late": "yellow", "suspect": "yellow",
          "loading": "yellow", "dead": "red", "failed": "red"}  # fmt: skip


class Command(NodeCommand):
    """Show the running node, its mesh and what is served."""

    help = "Show the running node, the other machines and what is served."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the output's form."""
        super().add_arguments(parser)
        parser.add_argument("--json", action="store_true", help="the document of GET /api/status")
        parser.add_argument("--watch", action="store_true", help="keep it on the screen, live")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the node and print."""
        port = options["port"]
        if options["json"]:
            self.stdout.write(json.dumps(self.ask("status", None, port)[1], indent=2))
            return
        # Django's wrapper ends each write with a line end; rich writes pieces of lines.
        out: Any = getattr(self.stdout, "_out", self.stdout)
        console = Console(file=out, highlight=False, width=None if out.isatty() else PIPE_WIDTH)
        if not options["watch"]:
            console.print(shown(self.ask("status", None, port)[1]))
            return
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                live.update(shown(self.ask("status", None, port)[1]), refresh=True)
                time.sleep(WATCH_INTERVAL_S)


def shown(found: dict[str, Any]) -> RenderableType:
    """Return the status as something to print."""
    parts: list[RenderableType] = [Text("\n".join(_head(found)))]
    parts.append(_nodes(found))
    parts.append(_models(found))
    return Group(*parts)


def _head(found: dict[str, Any]) -> list[str]:
    console = f", console on :{found['console_port']}" if found["console_port"] else ""
    guesses = found.get("draft_acceptance")
    right = "" if guesses is None else f", {guesses:.0%} of its guesses right"
    draft = [f"Draft {found['draft_name']}{right}"] if found.get("draft_name") else []
    return [
        f"{found['name']} ({found['node_id'][:12]}), mesh-llm {found['version']}: "
        f"{found['role']}, {found['state']}",
        f"API on :{found['api_port']}{console}",
        f"Offers {found['my_vram_gb']:.1f} GB, the mesh {found['mesh_vram_gb']:.1f} GB; "
        f"{sum(p['state'] not in ('dead', 'left') for p in found['peers'])} peers; "
        f"engine {found['engine']['version'] or 'missing'}, {found['engine']['starts']} starts",
        *draft,
        *_split(found),
    ]


def _split(found: dict[str, Any]) -> list[str]:
    """Return who computes what of a split that this node hosts, or whom it works for."""
    split = found.get("split")
    if not split:
        return []
    names = {p["id"]: p["name"] for p in found["peers"]}
    if work := split["works_for"]:
        host = names.get(work["node_id"], work["node_id"][:8])
        return [
            f"Works for {split['model']}, split by {host}: {work['layers']} layers over {_lane(work)}"
        ]
    reached = f"{split['tokens_per_s'] or 0:.1f} tokens/s now"
    if split["expected_tokens_per_s"]:
        reached += f", about {split['expected_tokens_per_s']:.1f} expected for one answer"
    lines = [f"{split['model']} is split over {len(found['rpc_entries'])} nodes; {reached}"]
    for part in found["rpc_entries"]:
        name = names.get(part["node_id"], found["name"])
        lane = "" if part["via"] == "local" else f" over {_lane(part)}"
        lines.append(f"  {name}: {part['layers']} layers ({part['share']:.0%}){lane}")
    return lines


def _lane(part: dict[str, Any]) -> str:
    """Return how the bytes go, how many went, and how many a worker's own file saved."""
    way = "TCP" if part["via"] == "lane" else "QUIC, as TCP does not get through"
    sent, saved = part["bytes_sent"] / 1e6, part["bytes_saved"] / 1e6
    return (
        f"{way}, {sent:.1f} MB sent, {saved:.1f} MB saved, {part['bytes_per_s'] / 1e6:.1f} MB/s now"
    )


def _nodes(found: dict[str, Any]) -> Table:
    table = Table("node", "state", "role", "serves", "memory", "round trip", "version", box=None)
    own = [m["name"] for m in found["mesh_models"] if found["node_id"] in m["nodes"]]
    table.add_row(
        Text(f"{found['name']} (this one)"), _word(found["state"]), found["role"],
        Text(", ".join(own)), f"{found['my_vram_gb']:.1f} GB", "", found["version"],
    )  # fmt: skip
    for peer in found["peers"]:
        rtt = "" if peer["rtt_ms"] is None else f"{peer['rtt_ms']:g} ms"
        table.add_row(
            Text(peer["name"]), _word(peer["state"]), Text(peer["role"]),
            Text(", ".join(peer["serving"])), f"{peer['vram_gb']:.1f} GB", rtt, Text(peer["version"]),
        )  # fmt: skip
    return table


def _models(found: dict[str, Any]) -> RenderableType:
    lines = Text()
    for model in found["mesh_models"]:
        why = f": {model['reason']}" if model["reason"] else ""
        on = f" on {model['node_count']} nodes" if model["node_count"] > 1 else ""
        lines.append_text(_word(f"  {model['status']:8}"))
        lines.append(f" {model['name']}{on}{why}\n")
    return lines


def _word(text: str) -> Text:
    return Text(text, style=STYLES.get(text.strip(), ""))
