"""`mesh-llm token new|list|revoke|rotate`: the invitations of the mesh that the running node is in."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from nodes.management.node_command import NodeCommand


class Command(NodeCommand):
    """Make, list and take back invite tokens."""

    help = "Make, list or revoke invite tokens; rotate the mesh's key."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add what can be done, and the limits of a new token."""
        super().add_arguments(parser)
        parser.add_argument("action", choices=["new", "list", "revoke", "rotate"])
        parser.add_argument("id", nargs="?", default="", help="the token to revoke, by its id")
        parser.add_argument("--hours", type=float, default=24.0, help="good for so long (24)")
        parser.add_argument("--uses", type=int, help="so many machines may join by it (any number)")
        parser.add_argument("--clients-only", action="store_true", help="for --client alone")
        parser.add_argument("--label", default="", help="a word for yourself")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the node and print."""
        port = options["port"]
        match options["action"]:
            case "new":
                asked = {
                    "subject": options["label"],
                    "hours": options["hours"],
                    "uses": options["uses"],
                    "clients_only": options["clients_only"],
                }
                self._show_new(self.found("new_token", asked, port), options)
            case "list":
                self._show_list(self.found("tokens", {}, port)["tokens"], options["json"])
            case "revoke":
                self.act("revoke_token", {"subject": options["id"]}, port)
            case "rotate":
                self.act("rotate", {}, port)

    def _show_new(self, found: dict[str, Any], options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        self.stdout.write(found["token"])
        client = "--client " if options["clients_only"] else ""
        self.stderr.write(
            f"Token {found['id']}, good until {_when(found['expires_s'])}. On the other machine:\n"
            f"  mesh-llm {client}--join TOKEN     (or keep it in a file: --join-file FILE)"
        )

    def _show_list(self, tokens: list[dict[str, Any]], as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(tokens, indent=2))
            return
        if not tokens:
            self.stdout.write("No invite tokens. `mesh-llm token new` makes one.")
        for token in tokens:
            state = "revoked" if token["revoked"] else f"good until {_when(token['expires_s'])}"
            left = "any number" if token["uses_left"] is None else f"{token['uses_left']} more"
            kind = "clients" if token["clients_only"] else "machines"
            label = f"  {token['label']}" if token["label"] else ""
            self.stdout.write(
                f"{token['id']}  {state}, {left} {kind} may join, {token['joined']} did{label}"
            )


def _when(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))
