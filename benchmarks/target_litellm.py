"""LiteLLM's proxy in an environment of its own: one worker, production mode, with its key, no database."""

import json
import secrets
import subprocess
import sys
from pathlib import Path

from benchmarks.process import REPO, TargetFailed, free_port, start, wait_until_ok
from benchmarks.target import LITELLM, Endpoint, Ground, Target

ENVIRONMENT = REPO / "benchmarks" / ".venv"
INSTALL_LIMIT_S = 900
START_LIMIT_S = 90

_SETTINGS = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    # Prices come with the package: the proxy would else download the newest list while it starts.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def start_litellm(ground: Ground, upstreams: dict[str, Endpoint]) -> Target:
    """Return a running LiteLLM proxy with a model per upstream. Raises TargetFailed."""
    binary = ENVIRONMENT / "bin" / "litellm"
    if not binary.exists():
        _install()
    port, key = free_port(), f"sk-{secrets.token_hex(32)}"
    models = [
        {
            "model_name": kind,
            "litellm_params": {
                "model": f"openai/{kind}",
                "api_base": f"http://127.0.0.1:{upstream.port}/v1",
                "api_key": "none",
            },
        }
        for kind, upstream in upstreams.items()
    ]
    # YAML reads JSON, so the configuration needs no YAML writer.
    config = ground.scratch / "litellm.yaml"
    config.write_text(
        json.dumps({"model_list": models, "litellm_settings": {"telemetry": False}}),
        encoding="utf-8",
    )
    argv = [str(binary), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    process = start(
        [*argv, "--num_workers", "1"],
        ground.scratch / "litellm.log",
        _SETTINGS | {"LITELLM_MASTER_KEY": key},
    )
    target = Target(LITELLM, _version(), processes=[process])
    try:
        wait_until_ok(process, port, "/health/liveliness", START_LIMIT_S)
    except TargetFailed:
        target.close()
        raise
    for kind, upstream in upstreams.items():
        target.endpoints[kind] = Endpoint(
            port, kind, upstream.engine_port, upstream.token_mark, key
        )
        target.measured[kind] = process.pid
    return target


def _install() -> None:
    print("installing LiteLLM into benchmarks/.venv (once, minutes) ...", flush=True)
    steps = (
        [sys.executable, "-m", "venv", str(ENVIRONMENT)],
        [str(ENVIRONMENT / "bin" / "pip"), "install", "-q", "litellm[proxy]"],
    )
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise TargetFailed("installing it took too long") from error
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise TargetFailed(f"could not be installed: {last[0][:120]}")


def _version() -> str:
    for path in Path(ENVIRONMENT).glob("lib/*/site-packages/litellm-*.dist-info"):
        return path.name.removeprefix("litellm-").removesuffix(".dist-info")
    return "unknown"
