"""What the words that speak to the running node share: `--port`, the call, the exit code."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from nodes.management.word_command import WordCommand
from nodes.runtime.control_client import NodeNotReached, call

EXIT_FAILED = 1


class NodeCommand(WordCommand):
    """A management command that asks the running node."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the flag that names another node than this home's."""
        parser.add_argument("--port", type=int, help="the API port of the node to ask")

    def ask(self, word: str, body: dict[str, Any] | None, port: int | None) -> Any:
        """Return (status, document); ends the process with a sentence when no node answers."""
        try:
            return call(settings.MESH_LLM_HOME, word, body, port)
        except NodeNotReached as error:
            self.stderr.write(f"mesh-llm: {error}")
            sys.exit(EXIT_FAILED)

    def act(self, word: str, body: dict[str, Any], port: int | None) -> None:
        """Ask for an action and print its true outcome; a refusal is a non-zero exit."""
        _, document = self.ask(word, body, port)
        if document["ok"]:
            self.stdout.write(document["text"])
            return
        self.stderr.write(f"mesh-llm: {document['text']}")
        sys.exit(EXIT_FAILED)

    def found(self, word: str, body: dict[str, Any], port: int | None) -> dict[str, Any]:
        """Return what an action found; ends the process with its sentence when it is refused."""
        _, document = self.ask(word, body, port)
        if not document["ok"]:
            self.stderr.write(f"mesh-llm: {document['text']}")
            sys.exit(EXIT_FAILED)
        found: dict[str, Any] = document.get("found", {})
        return found


class MachineCommand(NodeCommand):
    """A word that does one thing with one machine of the mesh; `word` is its name."""

    word = ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the machine."""
        super().add_arguments(parser)
        parser.add_argument(
            "node",
            nargs="?",
            default="",
            help="its name or id; the node that is asked, if left out",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the node and print the outcome."""
        self.act(self.word, {"subject": options["node"]}, options["port"])


class ModelCommand(NodeCommand):
    """A word that does one thing with one model; `word` is its name."""

    word = ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the model."""
        super().add_arguments(parser)
        parser.add_argument("model")

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask the node and print the outcome."""
        self.act(self.word, {"model": options["model"]}, options["port"])
