"""Engines to build command lines for, and the real one."""

import os
import stat
from pathlib import Path

import pytest

from models_registry.engine.flags import parse_flags
from models_registry.engine.probe import Engine
from nodes.mesh.plans import EngineFacts

HELP = Path(__file__).with_name("help")
REPO = Path(__file__).resolve().parents[3]


def help_text(name: str) -> str:
    return (HELP / name).read_text("utf-8")


def engine_of(version: str, build: str, server_help: str, rpc_help: str | None) -> Engine:
    rpc_path = None if rpc_help is None else "/e/ggml-rpc-server"
    facts = EngineFacts("/e/llama-server", rpc_path, version, build, "", "home")
    return Engine(facts, parse_flags(server_help, rpc_help))


@pytest.fixture(scope="session")
def engine_070() -> Engine:
    rpc = help_text("ggml-rpc-server-0.7.0.txt")
    return engine_of("0.7.0", "11669", help_text("llama-server-0.7.0.txt"), rpc)


@pytest.fixture(scope="session")
def engine_050() -> Engine:
    rpc = help_text("ggml-rpc-server-0.7.0.txt")
    return engine_of("0.5.0", "", help_text("llama-server-0.5.0-trimmed.txt"), rpc)


@pytest.fixture(scope="session")
def real_engine_dir() -> Path:
    """The folder of a real engine: MESH_LLM_TEST_ENGINE, or what `make setup` put into .cache."""
    folder = Path(os.environ.get("MESH_LLM_TEST_ENGINE") or REPO / ".cache" / "engine")
    if not (folder / "llama-server").exists():
        pytest.fail(
            f"No engine in {folder}: run `make setup`, or set MESH_LLM_TEST_ENGINE to a folder of one."
        )
    return folder


def write_script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake_engine(
    folder: Path, *, version: str = "0.7.0 (build 11669, commit x)", says: str = ""
) -> Path:
    """Write a llama-server and rpc-server that answer like 0.7.0 and count their runs in `runs`."""
    log = folder / "runs"
    server = write_script(
        folder / "llama-server",
        f'echo "$1" >> "{log}"\n'
        f'case "$1" in --version) echo "version: {version}";; '
        f'--help) cat "{HELP}/llama-server-0.7.0.txt";; --list-devices) printf "{says}";; esac\n',
    )
    rpc_body = (
        f'case "$1" in --help) cat "{HELP}/ggml-rpc-server-0.7.0.txt";; '
        "*) echo 'Starting RPC server v8.0.0';; esac\n"
    )
    write_script(folder / "ggml-rpc-server", rpc_body)
    return server
