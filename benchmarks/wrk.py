"""Requests per second by `wrk`, the distribution's load generator, 16 clients on one thread."""

import json
import re
import subprocess
from pathlib import Path

from benchmarks.process import TargetFailed, program
from benchmarks.target import Endpoint

CLIENTS = 16
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_SOCKET_ERRORS = re.compile(r"Socket errors: (.*)")


def requests_per_s(endpoint: Endpoint, tokens: int, length_s: float, scratch: Path) -> float:
    """Return the rate of good answers. Raises TargetFailed where answers failed or wrk is missing."""
    binary = program("wrk") or _install()
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": "What is a mesh?"}],
        "max_tokens": tokens,
    }
    script = scratch / "post.lua"
    script.write_text(
        'wrk.method = "POST"\n'
        f"wrk.body = [==[{json.dumps(body)}]==]\n"
        'wrk.headers["Content-Type"] = "application/json"\n'
        + (f'wrk.headers["Authorization"] = "Bearer {endpoint.key}"\n' if endpoint.key else ""),
        encoding="utf-8",
    )
    url = f"http://127.0.0.1:{endpoint.port}/v1/chat/completions"
    seconds = max(1, round(length_s))
    argv = [
        binary,
        "-t1",
        f"-c{CLIENTS}",
        f"-d{seconds}s",
        "--timeout",
        "20s",
        "-s",
        str(script),
        url,
    ]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60).stdout
    return read_rate(said)


def read_rate(said: str) -> float:
    """Return requests/s from wrk's report. Raises TargetFailed where answers failed or none came."""
    rate, bad, broken = _RATE.search(said), _BAD.search(said), _SOCKET_ERRORS.search(said)
    if rate is None:
        raise TargetFailed("wrk gave no rate")
    if bad is not None:
        raise TargetFailed(f"{bad[1]} answers were not 2xx")
    if broken is not None and float(rate[1]) == 0:
        raise TargetFailed(f"no answer: {broken[1]}")
    return float(rate[1])


def _install() -> str:
    if program("apt-get") is not None:
        subprocess.run(["apt-get", "install", "-y", "-q", "wrk"], capture_output=True)
    found = program("wrk")
    if found is None:
        raise TargetFailed("needs wrk: install the package of that name")
    return found
