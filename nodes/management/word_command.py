"""The shape of every word of `mesh-llm`: its own help, without what only Django's developers need."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

DJANGO_FLAGS = frozenset(
    {
        "--version",
        "--verbosity",
        "--settings",
        "--pythonpath",
        "--traceback",
        "--no-color",
        "--force-color",
        "--skip-checks",
    }
)
"""They still work; they are not shown."""


class WordCommand(BaseCommand):
    """A management command that is a word of `mesh-llm`."""

    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser, named and described as `mesh-llm WORD`."""
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.prog = f"mesh-llm {subcommand.replace('_', '-')}"
        for action in parser._actions:
            if DJANGO_FLAGS & set(action.option_strings):
                action.help = argparse.SUPPRESS
        return parser
