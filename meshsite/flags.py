"""The flags of `mesh-llm` as argparse knows them: names, forms and help texts. `options` reads them."""

import argparse
import math
from pathlib import Path

from meshsite.version import VERSION
from nodes.mesh.config import PROFILES
from nodes.mesh.reconcile import STOP_GRACE_S

API_PORT = 9337
CONSOLE_PORT = 3131
RATIOS_MAX = 64
"""Shares of `--tensor-split`: more machines than a split has."""


def parser(prog: str = "mesh-llm") -> argparse.ArgumentParser:
    """Return the parser of a node's flags."""
    made = argparse.ArgumentParser(
        prog=prog,
        allow_abbrev=False,
        description=(
            "Serve open-weight language models from this machine: an OpenAI-compatible API on "
            f":{API_PORT} and a live console on :{CONSOLE_PORT}. With --join it pools what it has with "
            "the other machines of a mesh; without --model and --join it serves a tiny built-in demo model."
        ),
        epilog=(
            "Other words: status, why, doctor, token, models, download, load, drop, unload, restart, "
            "drain, undrain, stop, engine, admin-user "
            "(mesh-llm WORD --help). Every flag can be set in the environment as MESH_LLM_<FLAG>."
        ),
    )
    made.add_argument("--version", action="version", version=f"mesh-llm {VERSION}")
    _add_model_flags(made.add_argument_group("models"))
    _add_mesh_flags(made.add_argument_group("mesh"))
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


def _add_mesh_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--join",
        action="append",
        metavar="TOKEN",
        default=[],
        help="join the mesh that this invite token is of; repeat for more, the first that answers "
        "wins; - reads it from standard input",
    )
    group.add_argument(
        "--join-file", action="append", metavar="FILE", default=[], help="file with an invite token"
    )
    group.add_argument(
        "--client", action="store_true", help="use a mesh without being part of it (needs --join)"
    )
    group.add_argument(
        "--new-mesh", action="store_true", help="leave the mesh of before and begin one of your own"
    )
    group.add_argument(
        "--bind-port",
        type=_port,
        metavar="PORT",
        help="UDP port for the other machines (default: random at the first start, then the same)",
    )
    group.add_argument(
        "--bind-ip", metavar="IP", help="address for the other machines (default: all)"
    )
    group.add_argument(
        "--network",
        choices=sorted(PROFILES),
        default="lan",
        help="how patient gossip is: lan for one site (default), wan for machines in several places; "
        "the same on all of them",
    )
    group.add_argument(
        "--approve", action="store_true", help="machines that join wait for your approval"
    )
    group.add_argument(
        "--auto-approve", action="store_true", help="machines with a good token may join (default)"
    )


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
        "--split",
        action="store_true",
        help="split models over several machines even where one could hold them",
    )
    group.add_argument(
        "--tensor-split",
        type=_ratios,
        metavar="R,R",
        help="shares of a split, this node's first, then its workers' nearest first (default: by memory)",
    )
    group.add_argument(
        "--rpc-self", action="store_true", help="compute through this node's own rpc-server"
    )


def _ratios(text: str) -> tuple[float, ...]:
    try:
        ratios = tuple(float(part) for part in text.split(","))
    except ValueError:
        ratios = ()
    usable = all(math.isfinite(ratio) and ratio >= 0 for ratio in ratios) and sum(ratios) > 0
    if not usable or not 2 <= len(ratios) <= RATIOS_MAX:
        raise argparse.ArgumentTypeError(
            f"{text} is not a list of 2 to {RATIOS_MAX} shares, such as 0.6,0.4 (none negative, not all 0)"
        )
    return ratios


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
