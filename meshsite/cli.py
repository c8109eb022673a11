"""`mesh-llm`: without a word it runs a node; with one it is that management command."""

import os
import sys
from collections.abc import Sequence

EXIT_INTERRUPTED = 130
"""Ctrl-C before a node took over the signals, or while a word was at work."""

WORDS = (
    "admin-user",
    "doctor",
    "download",
    "drain",
    "drop",
    "engine",
    "load",
    "models",
    "restart",
    "runnode",
    "status",
    "stop",
    "token",
    "undrain",
    "unload",
    "why",
)
"""Every word; `runnode` is what no word means."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the word; return the exit code."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(words: list[str]) -> int:
    if not words or words[0].startswith("-"):
        return _run_node(words)
    word = words[0]
    if word == "runnode":
        return _run_node(words[1:])
    if word not in WORDS:
        sys.stderr.write(
            f"mesh-llm: there is no word {word!r}. Words: {', '.join(WORDS)}. "
            "Without a word it runs a node; `mesh-llm --help` lists its flags.\n"
        )
        return 2
    return _run_command(word, words[1:])


def _run_node(words: Sequence[str]) -> int:
    from meshsite import boot

    return boot.main(words)


def _run_command(word: str, rest: Sequence[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "meshsite.settings")
    import django
    from django.core.management import CommandError, ManagementUtility

    django.setup()
    try:
        # `--traceback` has Django hand the error over, to be said as every other error is.
        ManagementUtility(["mesh-llm", word.replace("-", "_"), "--traceback", *rest]).execute()
    except CommandError as error:
        sys.stderr.write(f"mesh-llm: {error}\n")
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
