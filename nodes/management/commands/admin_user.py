"""`mesh-llm admin-user`: make the first account that may log in to the admin and the console."""

import getpass
import os
import sys
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from nodes.management.word_command import WordCommand


class Command(WordCommand):
    """Make an operator, or a viewer, asking for what was not given."""

    help = "Make an account for the admin and the console (asks for name and password)."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the flags."""
        parser.add_argument("--username", help="the account's name; asked for when absent")
        parser.add_argument(
            "--viewer", action="store_true", help="it may look at the console, and act on nothing"
        )
        parser.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the account, or say in one sentence why not."""
        os.umask(
            0o077
        )  # Whoever makes the home and its database first makes them the owner's alone.
        username = options["username"] or self._ask_name()
        password = self._password(options["password_stdin"])
        users = get_user_model()
        try:
            settings.MESH_LLM_HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
            call_command("migrate", interactive=False, verbosity=0)
            if users.objects.filter(username=username).exists():
                raise CommandError(
                    f"There is an account named {username} already. Choose another name, or change "
                    f"its password with: .venv/bin/python manage.py changepassword {username}"
                )
            acts = not options["viewer"]
            user = users(username=username, is_staff=acts, is_superuser=acts)
            validate_password(password, user)
            user.set_password(password)
            user.save()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        except (DatabaseError, OSError) as error:
            raise CommandError(
                f"The database cannot be used: {error}. Check the rights and the space of "
                f"{settings.MESH_LLM_HOME}, or what DATABASE_URL says."
            ) from None
        what = "the account" if acts else "the viewer's account"
        self.stdout.write(f"Made {what} {username}. Log in on the console at /login.")

    def _ask_name(self) -> str:
        if not sys.stdin.isatty():
            raise CommandError("Give the name with --username (standard input is no terminal).")
        return input("User name [admin]: ").strip() or "admin"

    def _password(self, from_stdin: bool) -> str:
        if from_stdin:
            password = sys.stdin.readline().rstrip("\n")
        elif sys.stdin.isatty():
            password = getpass.getpass("Password: ")
            if password != getpass.getpass("Password again: "):
                raise CommandError("The two passwords differ; nothing was made.")
        else:
            raise CommandError("Give the password with --password-stdin.")
        if not password:
            raise CommandError("The password is empty; nothing was made.")
        return password
