"""`manage.py runnode ARGS` is `mesh-llm ARGS`."""

import sys

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Run a node. The flags are those of `mesh-llm` (`meshsite.options`)."""

    help = "Run a mesh-llm node (the same as `mesh-llm`)."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Hand the arguments on as they are: they are not Django's."""
        from importlib import import_module

        # By name: the rooms below the composition root do not import it (import contracts).
        boot = import_module("meshsite.boot")
        sys.exit(boot.main(argv[2:], prog="manage.py runnode"))
