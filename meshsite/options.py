"""The flags of `mesh-llm` (`runnode`), from the command line and from `MESH_LLM_<FLAG>`.

Decides nothing but what the operator asked for; every flag without a value means "decide by what
fits". The command line wins over the environment.
"""

import argparse
import ipaddress
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshsite import settings as site
from meshsite.flags import API_PORT, CONSOLE_PORT, parser
from nodes.mesh.reconcile import STOP_GRACE_S
from nodes.runtime.join_sources import JoinSourceError, JoinToken, read_join_sources
from nodes.runtime.web_guard import is_loopback

EXCLUDING = (
    ("--console", "--no-console"),
    ("--api-key", "--api-key-file"),
    ("--draft", "--no-draft"),
    ("--client", "--model"),
    ("--approve", "--auto-approve"),
)
"""Flags of which one word alone is meant: given on the command line, it silences the other's variable."""
TRUE_WORDS = frozenset({"1", "true", "yes", "on"})


class OptionsError(Exception):
    """The flags contradict each other or are not safe; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator asked for. None: not said."""

    models: tuple[str, ...] = ()
    port: int = API_PORT
    console_port: int = CONSOLE_PORT
    console_port_given: bool = False
    console: bool = True
    host: str = "127.0.0.1"
    api_key: str | None = None
    insecure_open: bool = False
    cors_origins: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    max_vram_bytes: int | None = None
    serve_all: bool = False
    name: str = ""
    log_json: bool = False
    models_dir: Path = Path("~/.models")
    draft: Path | None = None
    draft_max: int = 8
    no_draft: bool = False
    context: int | None = None
    parallel: int | None = None
    device: str | None = None
    bin_dir: Path | None = None
    rpc_self: bool = False
    split: bool = False
    tensor_split: tuple[float, ...] | None = None
    """Shares of a split, this node's first."""
    stop_grace_s: float = STOP_GRACE_S
    join: tuple[JoinToken, ...] = ()
    """Invite tokens, best first."""
    new_mesh: bool = False
    client: bool = False
    bind_port: int | None = None
    bind_ip: str | None = None
    approve: bool = False
    """New members wait for the operator's word."""
    network: str = "lan"
    """Gossip's profile: a key of `nodes.mesh.config.PROFILES`."""

    @property
    def loopback_only(self) -> bool:
        """Whether API and console are for this machine alone."""
        return is_loopback(self.host)


def parse(argv: Sequence[str], prog: str = "mesh-llm") -> Options:
    """Return the options; argparse ends the process on a malformed flag.

    Raises:
        OptionsError: the flags are well-formed but cannot be used together.
    """
    made = parser(prog)
    return _checked(made.parse_args([*_from_environment(made, argv), *argv]))


def _from_environment(made: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """Return the environment's flags as arguments, to stand before those of the command line."""
    given = {word.split("=", 1)[0] for word in argv}
    given |= {flag for pair in EXCLUDING if given & set(pair) for flag in pair}
    words: list[str] = []
    for action in made._actions:
        flag = action.option_strings[-1] if action.option_strings else ""
        value = site.flag_default(flag) if flag.startswith("--") and flag not in given else None
        if value is None or flag in ("--help", "--version", "--join"):
            continue
        if action.nargs == 0:
            words.extend([flag] if value.strip().casefold() in TRUE_WORDS else [])
        elif isinstance(action, argparse._AppendAction):
            words.extend(f"{flag}={part.strip()}" for part in value.split(",") if part.strip())
        else:
            words.append(f"{flag}={value}")
    return words


def _checked(found: argparse.Namespace) -> Options:
    _refuse_contradictions(found)
    join = _join_tokens(found)
    _refuse_without_mesh(found, join)
    options = Options(
        models=tuple(found.model),
        port=found.port,
        console_port=found.console or CONSOLE_PORT,
        console_port_given=bool(found.console),
        console=not found.no_console,
        host=found.host,
        api_key=_api_key(found.api_key, found.api_key_file),
        insecure_open=found.insecure_open,
        cors_origins=tuple(found.cors_origin),
        allow_hosts=tuple(found.allow_host),
        max_vram_bytes=found.max_vram,
        serve_all=found.serve_all,
        name=found.name,
        log_json=found.log_format == "json",
        models_dir=found.models_dir.expanduser(),
        draft=found.draft.expanduser() if found.draft else None,
        draft_max=found.draft_max,
        no_draft=found.no_draft,
        context=found.ctx_size,
        parallel=found.parallel,
        device=found.device,
        bin_dir=found.bin_dir.expanduser() if found.bin_dir else None,
        rpc_self=found.rpc_self,
        split=found.split,
        tensor_split=found.tensor_split,
        stop_grace_s=found.stop_grace,
        join=join,
        new_mesh=found.new_mesh,
        client=found.client,
        bind_port=found.bind_port,
        bind_ip=_bind_ip(found.bind_ip),
        approve=found.approve,
        network=found.network,
    )
    if not options.loopback_only and options.api_key is None and not options.insecure_open:
        raise OptionsError(
            f"--host {options.host} would open the API and the console to the network without a key. "
            "Add --api-key KEY or --api-key-file FILE, or --insecure-open if that is what you want."
        )
    return options


def _refuse_contradictions(found: argparse.Namespace) -> None:
    """Return when the flags go together. Raises: OptionsError."""
    if found.no_console and found.console is not None:
        raise OptionsError("--console and --no-console contradict each other; give one of them.")
    if found.console and found.console == found.port and not found.no_console:
        raise OptionsError(
            f"--port and --console are both {found.port}; the API and the console need one each."
        )
    if found.no_draft and found.draft:
        raise OptionsError("--draft and --no-draft contradict each other; give one of them.")
    if found.approve and found.auto_approve:
        raise OptionsError("--approve and --auto-approve contradict each other; give one of them.")
    if found.client and found.model:
        raise OptionsError(
            "--client serves no model itself, so it goes without --model; give one of them."
        )


def _refuse_without_mesh(found: argparse.Namespace, join: tuple[JoinToken, ...]) -> None:
    """Return when what is said of the mesh makes sense. Raises: OptionsError."""
    if found.client and not join:
        raise OptionsError(
            "--client needs the mesh to use: add --join TOKEN (another machine's start-up lines, or "
            "`mesh-llm token new` there, show one)."
        )
    if found.new_mesh and join:
        raise OptionsError("--new-mesh and --join contradict each other; give one of them.")


def _join_tokens(found: argparse.Namespace) -> tuple[JoinToken, ...]:
    try:
        return read_join_sources(
            found.join, found.join_file, site.flag_default("--join"), sys.stdin
        )
    except JoinSourceError as error:
        raise OptionsError(str(error)) from error


def _bind_ip(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise OptionsError(f"--bind-ip {text} is not an IP address of this machine.") from None


def _api_key(value: str | None, file: Path | None) -> str | None:
    if value is not None and file is not None:
        raise OptionsError("--api-key and --api-key-file contradict each other; give one of them.")
    if file is not None:
        try:
            value = file.expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionsError(f"--api-key-file {file} cannot be read: {error}.") from error
    if value is not None and not value:
        raise OptionsError("The API key is empty; give at least one character.")
    if value is not None and not (value.isascii() and value.isprintable()):
        raise OptionsError(
            "The API key has characters that no HTTP header carries; use plain ASCII."
        )
    return value
