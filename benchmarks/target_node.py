"""Ours: whole nodes as a user starts them, one on the fake engine and one on the real."""

import http.client
import json
import sys
import time
from pathlib import Path

import psutil

from benchmarks.process import (
    REPO,
    TargetFailed,
    family,
    free_port,
    http_get,
    start,
    stop,
)
from benchmarks.target import (
    FAKE,
    FAKE_TOKEN_MARK,
    OURS,
    REAL_TOKEN_MARK,
    Endpoint,
    Ground,
    Target,
)

START_LIMIT_S = 45


def node_argv(engine: Path | None, port: int, *more: str) -> list[str]:
    """Return the command line of a node on the demo model; engine None: it finds its own."""
    bin_dir = ["--bin-dir", str(engine)] if engine else []
    return [sys.executable, "-m", "meshsite.cli", *bin_dir, "--port", str(port), *more]


def node_env(home: Path) -> dict[str, str]:
    """Return the environment of a node whose folder is `home`."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    loopback = {"MESH_LLM_BIND_IP": "127.0.0.1"}
    return {"MESH_LLM_HOME": str(home), "PYTHONPATH": str(REPO), **loopback}


def start_node(ground: Ground, upstreams: dict[str, Endpoint]) -> Target:
    """Return one running node per upstream kind, each with an engine of its own. Raises TargetFailed."""
    if not (REPO / "meshsite" / "cli.py").exists():
        raise TargetFailed("the node's command does not exist in this tree")
    target = Target(OURS, _version())
    try:
        for kind in upstreams:
            _add(target, ground, kind)
    except TargetFailed:
        target.close()
        raise
    return target


def _add(target: Target, ground: Ground, kind: str) -> None:
    port = free_port()
    engine = ground.fake_engine if kind == FAKE else ground.real_engine
    log = ground.scratch / f"node-{kind}.log"
    argv = node_argv(engine, port, "--no-console", *ground.model_argv())
    process = start(argv, log, node_env(ground.scratch / f"home-{kind}"))
    limit = time.monotonic() + START_LIMIT_S
    while not (name := served_model(port)):
        if process.poll() is not None or time.monotonic() > limit:
            stop(process)
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no word"]
            raise TargetFailed(f"the node did not serve: {last[0][:160]}")
        time.sleep(0.05)
    mark = FAKE_TOKEN_MARK if kind == FAKE else REAL_TOKEN_MARK
    target.processes.append(process)
    target.measured[kind] = process.pid
    target.endpoints[kind] = Endpoint(port, name, engine_port(process.pid), mark)


def served_model(port: int) -> str:
    """Return the first model that /v1/models lists, empty while there is none."""
    try:
        status, body = http_get(port, "/v1/models")
        if status == 200:
            for entry in json.loads(body)["data"]:
                return str(entry["id"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        pass
    return ""


def engine_port(pid: int) -> int:
    """Return the port in the command line of the node's own llama-server."""
    for process in family(pid):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if any("llama-server" in word for word in line[:8]) and "--port" in line:
            return int(line[line.index("--port") + 1])
    raise TargetFailed("the node's llama-server was not found among its children")


def _version() -> str:
    for line in (REPO / "pyproject.toml").read_text("utf-8").splitlines():
        if line.startswith("version = "):
            return line.split('"')[1]
    return "unknown"
