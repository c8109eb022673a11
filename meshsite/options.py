"""The flags of `mesh-llm` (`runnode`), from the command line and from `MESH_LLM_<FLAG>`.

Decides nothing but what the operator asked for; every flag without a value means "decide by what
fits". The command line wins over the environment.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshsite import settings as site
from meshsite.version import VERSION
from nodes.mesh.reconcile import STOP_GRACE_S
from nodes.runtime.web_guard import is_loopback

API_PORT = 9337
CONSOLE_PORT = 3131
EXCLUDING = (
    ("--console", "--no-console"),
    ("--api-key", "--api-key-file"),
    ("--draft", "--no-draft"),
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
    stop_grace_s: float = STOP_GRACE_S

    @property
    def loopback_only(self) -> bool:
        """Whether API and console are for this machine alone."""
        return is_loopback(self.host)


def parser(prog: str = "mesh-llm") -> argparse.ArgumentParser:
    """Return the parser of a node's flags."""
    made = argparse.ArgumentParser(
        prog=prog,
        allow_abbrev=False,
        description=(
            "Serve open-weight language models from this machine: an OpenAI-compatible API on "
            f":{API_PORT} and a live console on :{CONSOLE_PORT}. Without --model it serves a tiny "
            "built-in demo model."
        ),
        epilog=(
            "Other words: models, download, engine, status, load, drop, restart, stop, admin-user "
            "(mesh-llm WORD --help). Every flag can be set in the environment as MESH_LLM_<FLAG>."
        ),
    )
    made.add_argument("--version", action="version", version=f"mesh-llm {VERSION}")
    _add_model_flags(made.add_argument_group("models"))
    _add_access_flags(made.add_argument_group("ports and access"))
    _add_engine_flags(made.add_argument_group("engine"))
    return made


def _add_model_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        action="append",
        metavar="X",
        default=[],
        help="a GGUF path, a stem in the models folder, a catalogue name, or org/repo/file.gguf; "
        "repeat to ask for more than one: the first is served here",
    )
    group.add_argument("--serve-all", action="store_true", help="serve every --model that fits")
    group.add_argument(
        "--models-dir", type=Path, default=Path("~/.models"), help="where GGUF files are looked for"
    )
    group.add_argument("--draft", type=Path, metavar="PATH", help="draft model for speculation")
    group.add_argument(
        "--draft-max",
        type=_positive,
        default=8,
        metavar="N",
        help="tokens guessed ahead at most (default 8)",
    )
    group.add_argument("--no-draft", action="store_true", help="never use a draft model")


def _add_access_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--port", type=_port, default=API_PORT, help="the API's port (default 9337)")
    group.add_argument(
        "--console",
        type=_port,
        nargs="?",
        const=0,
        metavar="PORT",
        help="the console's port (default 3131, or the next free one); the console is on by default",
    )
    group.add_argument("--no-console", action="store_true", help="run without the console")
    group.add_argument("--host", default="127.0.0.1", help="address for API and console")
    group.add_argument("--api-key", metavar="KEY", help="key that API requests must bring")
    group.add_argument("--api-key-file", type=Path, metavar="FILE", help="file that holds the key")
    group.add_argument(
        "--insecure-open", action="store_true", help="allow --host beyond loopback without a key"
    )
    group.add_argument(
        "--cors-origin", action="append", default=[], metavar="ORIGIN", help="further web origin"
    )
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="further Host name"
    )
    group.add_argument("--name", default="", help="display name of this node (default: host name)")
    group.add_argument(
        "--stop-grace",
        type=_seconds,
        default=STOP_GRACE_S,
        metavar="S",
        help="seconds that open answers get when the node stops or drops a model (default 30)",
    )
    group.add_argument(
        "--log-format", choices=["text", "json"], default="text", help="form of the log lines"
    )


def _add_engine_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-vram", type=_gigabytes, metavar="GB", help="offer at most this much memory"
    )
    group.add_argument("--ctx-size", type=_positive, metavar="N", help="tokens of context a slot")
    group.add_argument("--parallel", type=_positive, metavar="N", help="requests at the same time")
    group.add_argument("--device", help="engine device(s) to use, as `mesh-llm engine show` lists")
    group.add_argument("--bin-dir", type=Path, metavar="DIR", help="folder with llama-server")
    group.add_argument(
        "--rpc-self", action="store_true", help="compute through this node's own rpc-server"
    )


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
        if value is None or flag in ("--help", "--version"):
            continue
        if action.nargs == 0:
            words.extend([flag] if value.strip().casefold() in TRUE_WORDS else [])
        elif isinstance(action, argparse._AppendAction):
            words.extend(f"{flag}={part.strip()}" for part in value.split(",") if part.strip())
        else:
            words.append(f"{flag}={value}")
    return words


def _checked(found: argparse.Namespace) -> Options:
    if found.no_console and found.console is not None:
        raise OptionsError("--console and --no-console contradict each other; give one of them.")
    if found.console and found.console == found.port and not found.no_console:
        raise OptionsError(
            f"--port and --console are both {found.port}; the API and the console need one each."
        )
    if found.no_draft and found.draft:
        raise OptionsError("--draft and --no-draft contradict each other; give one of them.")
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
        stop_grace_s=found.stop_grace,
    )
    if not options.loopback_only and options.api_key is None and not options.insecure_open:
        raise OptionsError(
            f"--host {options.host} would open the API and the console to the network without a key. "
            "Add --api-key KEY or --api-key-file FILE, or --insecure-open if that is what you want."
        )
    return options


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


def _positive(text: str) -> int:
    number = int(text) if text.strip().isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of 1 or more")
    return number


def _port(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port (1 to 65535)")
    return number


def _seconds(text: str) -> float:
    try:
        duration = float(text)
    except ValueError:
        duration = -1.0
    if not 0 <= duration <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a time of 0 to 3600 seconds")
    return duration


def _gigabytes(text: str) -> int:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a size in GB, such as 16 or 0.5")
    return int(size * 1e9)
