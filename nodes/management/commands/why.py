"""`mesh-llm why MODEL`: which nodes serve a model, which do not, and the reason of each."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from nodes.management.node_command import NodeCommand

HISTORY_SHOWN = 5
"""Decisions shown, the latest first; `--json` has all."""


class Command(NodeCommand):
    """Tell why a model is served as it is."""

    help = "Tell which nodes serve a model, which do not, and why."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the model and the output's form."""
        super().add_arguments(parser)
        parser.add_argument("model")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the node and print."""
        document = self.found("why", {"subject": options["model"]}, options["port"])["why"]
        if options["json"]:
            self.stdout.write(json.dumps(document, indent=2))
            return
        self.stdout.write(document["sentence"])
        for one in document["candidates"]:
            mark = "yes" if one["accepted"] else "no "
            self.stdout.write(f"  {mark}  {one['sentence']}")
        if document["needed"]:
            self.stdout.write(f"To serve it: {document['needed']}.")
        for one in document["history"][:HISTORY_SHOWN]:
            at = time.strftime("%H:%M:%S", time.localtime(one["at"]))
            self.stdout.write(f"  {at}  {_sentence(one['text'])}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
