"""Where invite tokens come from: arguments, files, the environment, standard input. Never logged.

Decides their order (as given: arguments, files, environment) and says which source an error is of,
without repeating the text. `-` as an argument reads standard input, which keeps a token out of `ps`.
"""

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from nodes.runtime.token import MAX_TOKEN_CHARS, InviteToken
from nodes.runtime.token_errors import TokenError

MAX_SOURCE_CHARS = 64 * 1024
MAX_TOKENS = 16


class JoinSourceError(Exception):
    """A source of tokens cannot be used. One sentence for a person; never repeats the token."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """One token and where it came from, for messages."""

    token: InviteToken
    source: str


def read_join_sources(
    arguments: Sequence[str] = (),
    files: Sequence[str | Path] = (),
    environment: str | None = None,
    stdin: TextIO | None = None,
) -> tuple[JoinToken, ...]:
    """Return the tokens to join by, best first, each once. Several in one source: one a line.

    Raises:
        JoinSourceError: a source cannot be read, is empty, or holds something that is no token.
    """
    found: list[JoinToken] = []
    for argument in arguments:
        if argument == "-":
            found += _tokens(_stdin_text(stdin), "standard input")
        else:
            found += _tokens(argument, "--join")
    for file in files:
        found += _tokens(_file_text(Path(file)), f"--join-file {file}")
    if environment and environment.strip():
        found += _tokens(environment, "MESH_LLM_JOIN")
    unique = {item.token: item for item in reversed(found)}
    ordered = [item for item in found if unique.get(item.token) is item]
    if len(ordered) > MAX_TOKENS:
        raise JoinSourceError(f"{len(ordered)} invite tokens are too many: {MAX_TOKENS} at most.")
    return tuple(ordered)


def _stdin_text(stdin: TextIO | None) -> str:
    if stdin is None:
        raise JoinSourceError("--join - needs a token on standard input, and there is none.")
    try:
        return stdin.read(MAX_SOURCE_CHARS)
    except (OSError, UnicodeDecodeError) as error:
        raise JoinSourceError("--join - could not read a token from standard input.") from error


def _file_text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not stat.S_ISFIFO(path.stat().st_mode):
            raise JoinSourceError(f"--join-file {path} is not a file: name one that holds a token.")
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_SOURCE_CHARS)
    except UnicodeDecodeError as error:
        raise JoinSourceError(f"--join-file {path} is not a text file with a token.") from error
    except OSError as error:
        raise JoinSourceError(
            f"--join-file {path} cannot be read ({error.strerror or error}): check the path."
        ) from error


def _tokens(text: str, source: str) -> list[JoinToken]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise JoinSourceError(f"{source} holds no invite token: it is empty.")
    return [JoinToken(_decoded(part, source), source) for part in _joined(lines)]


def _joined(lines: Iterable[str]) -> list[str]:
    """Return whole tokens: a line that does not begin one continues the one before (a wrapped paste)."""
    parts: list[str] = []
    for line in lines:
        begins = line.lstrip("\"'`<").startswith("mesh") and "-" in line[:12]
        if parts and not begins and len(parts[-1]) < MAX_TOKEN_CHARS:
            parts[-1] += line
        else:
            parts.append(line)
    return parts


def _decoded(text: str, source: str) -> InviteToken:
    try:
        return InviteToken.decode(text)
    except TokenError as error:
        raise JoinSourceError(f"{source}: {error}") from error
