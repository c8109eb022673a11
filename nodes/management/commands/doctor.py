"""`mesh-llm doctor`: ports, addresses, both directions to the peers or a token, clocks, the engine."""

import asyncio
import json
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from nodes.management.node_command import EXIT_FAILED, NodeCommand
from nodes.runtime import doctor
from nodes.runtime.control_client import NodeNotReached, call
from nodes.runtime.join_sources import JoinSourceError, read_join_sources
from nodes.runtime.token import InviteToken
from nodes.runtime.token_errors import TokenExpiredError

MARKS = {"ok": "ok      ", "warning": "warning ", "failed": "FAILED  "}


class Command(NodeCommand):
    """Check this node and the ways between it and the others."""

    help = "Check the node, its ports, the ways to and from the other machines, and the clocks."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add whom to check."""
        super().add_arguments(parser)
        parser.add_argument(
            "peer", nargs="?", default="", help="a node's name or id (default: all)"
        )
        parser.add_argument(
            "--token", help="check the way to the machines of an invite token; - reads it"
        )
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and print; a failed check is a non-zero exit."""
        checks = self._of_token(options["token"]) if options["token"] else []
        try:
            asked = {"subject": options["peer"]}
            _, document = call(settings.MESH_LLM_HOME, "doctor", asked, options["port"])
            checks += document["found"]["checks"]
        except NodeNotReached as error:
            state = "warning" if options["token"] else "failed"
            checks.append({"what": "node", "state": state, "text": str(error)})
        if options["json"]:
            self.stdout.write(json.dumps(checks, indent=2))
        else:
            for check in checks:
                self.stdout.write(f"{MARKS[check['state']]}{check['what']}: {check['text']}")
        if any(check["state"] == "failed" for check in checks):
            sys.exit(EXIT_FAILED)

    def _of_token(self, text: str) -> list[dict[str, Any]]:
        try:
            token = read_join_sources([text], stdin=sys.stdin)[0].token
        except JoinSourceError as error:
            return [{"what": "token", "state": "failed", "text": str(error)}]
        return [_validity(token), *asyncio.run(_ways(token))]


def _validity(token: InviteToken) -> dict[str, Any]:
    now_s = time.time()
    if now_s >= token.expires_s:
        text = str(TokenExpiredError(token.expires_s, now_s))
        return {"what": "token", "state": "failed", "text": text}
    hours = (token.expires_s - now_s) / 3600
    text = f"Whole, of mesh {token.mesh_id[:8]}, good for {hours:.0f} hours more by this clock."
    return {"what": "token", "state": "ok", "text": text}


async def _ways(token: InviteToken) -> list[dict[str, Any]]:
    found = await doctor.probe_all([str(address) for address in token.addresses])
    said = {
        "answered": ("ok", "A node answers there."),
        "refused": ("warning", "The machine answers, but nothing listens on this UDP port."),
        "silent": ("warning", "No answer: off, in another network, or a firewall drops UDP."),
        "malformed": ("warning", "This is no address."),
    }
    checks = [
        {"what": f"way to {address}", "state": said[answer][0], "text": said[answer][1]}
        for address, answer in found.items()
    ]
    if "answered" not in found.values():
        text = "No address of the token answers: is a node running there, and is its UDP port open?"
        checks.append({"what": "token", "state": "failed", "text": text})
    return checks
