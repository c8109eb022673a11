"""Asks a binary once what it is, and remembers the answer.

Decides nothing about models. A warm start runs nothing: the answer is kept as JSON, keyed by the
binaries' path, inode, size and time of their last change.
"""

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models_registry.engine.faults import EngineBroken
from models_registry.engine.flags import EngineFlags, is_server_help, parse_flags, parse_version
from models_registry.supervision import exec_child
from nodes.mesh.plans import EngineFacts

PROBE_TIMEOUT_S = 20.0
"""For one `--help`; takes 15 to 40 ms, but a CUDA build on a cold disk takes seconds."""
RPC_BANNER_TIMEOUT_S = 5.0
CACHE_FORMAT = 2
"""Part of the key: raise it when `EngineFlags` or the parser changes."""
KEPT_MAX = 4
"""Answers kept in one folder; the oldest go. A node uses one engine, its tests a few."""
RPC_NAMES = ("ggml-rpc-server", "rpc-server")
_RPC_BANNER = re.compile(r"RPC server v([\d.]+)")
_MISSING_LIBRARY = re.compile(r"(?:loading shared libraries|Library not loaded): *([^\s:]+)")
_REINSTALL = "Run `mesh-llm engine install --force`, or name a working one with --bin-dir."


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that has been run and answered: where it is and what it can do."""

    facts: EngineFacts
    flags: EngineFlags


def probe(server_path: Path, source: str, cache_dir: Path | None) -> Engine:
    """Return what the llama-server at `server_path` is; `cache_dir` None: ask it afresh.

    Raises:
        EngineBroken: it does not run here, or is not a llama-server. Handled by `find` and compose.
    """
    server = server_path.absolute()
    rpc = rpc_server_beside(server)
    try:
        key = _key(server, rpc)
    except OSError as error:
        raise EngineBroken(f"{server} cannot be read: {error.strerror}. {_REINSTALL}") from error
    kept = None if cache_dir is None else cache_dir / f"engine-{key}.json"
    if kept is not None and (known := _load(kept)) is not None:
        return replace(known, facts=replace(known.facts, source=source))
    engine = _ask(server, rpc, source)
    if kept is not None:
        _store(kept, engine)
    return engine


def rpc_server_beside(server: Path) -> Path | None:
    """Return the rpc-server that belongs to `server`, or None.

    Beside it, beside what it links to, or where Debian's package puts it (``libexec``).
    """
    folders = [server.parent]
    with contextlib.suppress(OSError):
        folders.append(server.resolve().parent)
    folders += [
        libexec
        for folder in folders
        for libexec in sorted(folder.parent.glob("libexec/*/llama/bin"))
    ]
    suffix = ".exe" if server.suffix.lower() == ".exe" else ""
    for folder in folders:
        for name in RPC_NAMES:
            candidate = folder / (name + suffix)
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return candidate
    return None


def run_engine(argv: Sequence[str | Path], *, timeout_s: float = PROBE_TIMEOUT_S) -> str:
    """Return what a short engine command prints (both streams).

    Raises:
        EngineBroken: it could not be started, was killed, hung, or ended with an error.
    """
    program = Path(argv[0])
    try:
        done = subprocess.run(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            env=_quiet_env(os.environ),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineBroken(
            f"{program} did not answer `{argv[-1]}` within {timeout_s:g} s. {_REINSTALL}"
        ) from error
    except OSError as error:
        raise EngineBroken(_why_not_started(program, error)) from error
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise EngineBroken(_why_failed(program, done.returncode, text))
    return text


def _ask(server: Path, rpc: Path | None, source: str) -> Engine:
    version, build = parse_version(run_engine([server, "--version"]))
    server_help = run_engine([server, "--help"])
    if not is_server_help(server_help):
        raise EngineBroken(f"{server} runs, but is not llama.cpp's llama-server. {_REINSTALL}")
    rpc_help: str | None = None
    rpc_version = ""
    if rpc is not None:
        try:
            rpc_help = run_engine([rpc, "--help"])
            rpc_version = _rpc_version(rpc, parse_flags(server_help, rpc_help))
        except EngineBroken:
            # Serving alone works without it; a split is then simply not offered.
            rpc = None
            rpc_help = None
    facts = EngineFacts(
        server_path=str(server),
        rpc_server_path=None if rpc is None else str(rpc),
        version=version,
        build=build,
        rpc_version=rpc_version,
        source=source,
    )
    return Engine(facts, parse_flags(server_help, rpc_help))


def _rpc_version(rpc: Path, flags: EngineFlags) -> str:
    """Return the RPC protocol's version, which only a started rpc-server tells; empty if it does not.

    It prints through a terminal here: into a pipe it would keep the line in its buffer.
    """
    if flags.rpc_port is None or sys.platform == "win32":
        return ""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    reader, writer = os.openpty()
    try:
        # Tied to this thread: a node that ends at once never reaches the `finally` below.
        tied = [sys.executable, "-I", "-S", exec_child.__file__, str(os.getpid())]
        with subprocess.Popen(
            [*tied, str(rpc), flags.rpc_port, str(port)],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            env=_quiet_env(os.environ),
        ) as process:
            try:
                return _read_banner(reader, process)
            finally:
                process.kill()
    except OSError:
        return ""
    finally:
        os.close(reader)
        os.close(writer)


def _read_banner(reader: int, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + RPC_BANNER_TIMEOUT_S
    seen = b""
    while time.monotonic() < deadline:
        if select.select([reader], [], [], 0.05)[0]:
            seen += os.read(reader, 4096)
            if match := _RPC_BANNER.search(seen.decode("utf-8", "replace")):
                return match[1]
        elif process.poll() is not None:
            break
    return ""


def _quiet_env(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` without settings that would change what an engine prints or loads."""
    return {k: v for k, v in base.items() if not k.startswith("LLAMA_")}


def _why_not_started(program: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and program.exists():
        # The kernel says "no such file" of the loader that the binary names, not of the binary.
        return (
            f"{program} was built for another place or system: its loader is missing. {_REINSTALL}"
        )
    if isinstance(error, PermissionError):
        return f"{program} may not be run by this user: check its mode and the mount's noexec. {_REINSTALL}"
    if error.errno == 8:
        return f"{program} is not a program for this machine's processor or system. {_REINSTALL}"
    return f"{program} cannot be started: {error.strerror or error}. {_REINSTALL}"


def _why_failed(program: Path, returncode: int, text: str) -> str:
    if match := _MISSING_LIBRARY.search(text):
        return (
            f"{program} lacks the shared library {match[1]}: install the package that has it. "
            f"Or: {_REINSTALL}"
        )
    if returncode == -signal.SIGILL or returncode == 0xC000001D:
        return (
            f"{program} uses instructions that this processor does not have: it was built for a newer "
            "one. Run `mesh-llm engine install --method source --force`."
        )
    words = [line.strip() for line in text.splitlines() if line.strip()]
    last = f": {words[-1][:200]}" if words else ""
    return f"{program} ended with {returncode}{last}. {_REINSTALL}"


def _key(server: Path, rpc: Path | None) -> str:
    parts: list[object] = [CACHE_FORMAT]
    for path in (server, rpc):
        if path is not None:
            seen = path.stat()
            parts += [str(path), seen.st_ino, seen.st_size, seen.st_mtime_ns]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _load(path: Path) -> Engine | None:
    """Return the kept answer, or None when there is none or it is unreadable: then we ask again."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        flags: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in kept["flags"].items()
        }
        return Engine(EngineFacts(**kept["facts"]), EngineFlags(**flags))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _store(path: Path, engine: Engine) -> None:
    """Keep the answer; a folder that cannot be written only costs the next start a few milliseconds."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="utf-8"
        ) as new:
            json.dump(asdict(engine), new)
        Path(new.name).replace(path)
        kept = sorted(path.parent.glob("engine-*.json"), key=lambda p: p.stat().st_mtime)
        for stale in kept[:-KEPT_MAX]:
            stale.unlink(missing_ok=True)
