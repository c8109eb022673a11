"""The upstreams themselves: the fake engine and, where it is installed, the real llama-server."""

from benchmarks.process import TargetFailed, free_port, start, wait_until_ok
from benchmarks.target import (
    DIRECT,
    FAKE,
    FAKE_TOKEN_MARK,
    REAL,
    REAL_TOKEN_MARK,
    Endpoint,
    Ground,
    Target,
)

REAL_SLOTS = 4


def start_direct(ground: Ground) -> Target:
    """Return the running upstreams. Raises TargetFailed when the fake does not start."""
    target = Target(DIRECT, version="the engine itself")
    try:
        _add(target, ground, FAKE)
        if ground.real_engine is not None and ground.model is not None:
            _add(target, ground, REAL)
    except TargetFailed:
        target.close()
        raise
    return target


def _add(target: Target, ground: Ground, kind: str) -> None:
    port = free_port()
    engine = ground.fake_engine if kind == FAKE else ground.real_engine
    model = "fake" if kind == FAKE else str(ground.model)
    argv = [f"{engine}/llama-server", "-m", model, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["-np", str(REAL_SLOTS), "-c", str(2048 * REAL_SLOTS), "-t", "1", "--no-ui"]
    process = start(argv, ground.scratch / f"direct-{kind}.log")
    target.processes.append(process)
    wait_until_ok(process, port, "/health", 30)
    mark = FAKE_TOKEN_MARK if kind == FAKE else REAL_TOKEN_MARK
    target.endpoints[kind] = Endpoint(port, kind, port, mark)
