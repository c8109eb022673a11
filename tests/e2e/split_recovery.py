"""A fault struck at a split with real processes, and what its host and its clients saw, in seconds.

Used by the end-to-end tests, which hold it to bounds, and by `tests.soak.split_recovery`, which repeats it.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.mesh_processes import MeshProcesses
from tests.e2e.node_process import NodeProcess
from tests.e2e.split_mesh import (
    HOST_GB,
    PART_GB,
    SHAPE,
    Stream,
    answer,
    engine_starts,
    layout,
    ready_answer,
    wait_parts,
)

SEEN_MAX_S = 60.0
"""How long anything is waited for; the bounds are asserted by who calls."""
DETECTED_S = 15.0
"""Unit: seconds from the freeze of a part until the host's engine, which hangs on it, is ended (issue 5)."""
STREAM_END_S = 1.0
"""Unit: seconds from the engine's end until its open streams end with an error (issue 5)."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was seen, in seconds from the fault."""

    detected_s: float
    """The host's engine over the lost part has ended."""
    serving_s: float
    """A request to the host, or to its heir, was answered."""
    stream_s: float | None = None
    """From the engine's end until the open stream's end."""
    error: str = ""
    """What that stream was told."""


class _End(threading.Thread):
    """Notes when a process ends."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process = process
        self.at_s = 0.0
        self.start()

    def run(self) -> None:
        by_s = time.monotonic() + SEEN_MAX_S
        while time.monotonic() < by_s:
            if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
                break
            time.sleep(0.002)
        self.at_s = time.monotonic()


def struck(host: NodeProcess, strike: Callable[[], object], *, streaming: bool = False) -> Recovery:
    """Strike, and return how this host, which lives on, came to answer again."""
    starts = engine_starts(host)
    end = _End(host.engine_process())
    stream = Stream(host).start() if streaming else None
    began_s = time.monotonic()
    strike()
    end.join(SEEN_MAX_S)
    assert end.at_s - began_s < SEEN_MAX_S, host.output
    stream_s = None
    if stream is not None:
        stream.wait(SEEN_MAX_S)
        stream_s = stream.ended_s - end.at_s
        assert b"[DONE]" not in stream.body
    host.wait_for(lambda: engine_starts(host) > starts, "another start", SEEN_MAX_S)
    ready_answer(host, SEEN_MAX_S)
    serving_s = time.monotonic() - began_s
    return Recovery(end.at_s - began_s, serving_s, stream_s, stream.error if stream else "")


def freeze_all(node: NodeProcess) -> list[psutil.Process]:
    """Stop a node and everything it runs, as when its machine freezes; return them for `thaw_all`."""
    frozen = [psutil.Process(node.process.pid), *node.children()]
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    return frozen


def thaw_all(frozen: Iterable[psutil.Process]) -> None:
    """Let them go on."""
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def small_nodes(made: MeshProcesses, model: Path, names: Iterable[str], *words: str) -> str:
    """Start nodes that have the file and too little memory each; return who hosts the split, the first."""
    token = None
    for name in names:
        size_gb = HOST_GB if token is None else PART_GB
        made.start(name, "--model", str(model), "--max-vram", size_gb, *SHAPE, *words, join=token)
        token = token or made.token(name)
    return host_of(made)


def host_of(made: MeshProcesses, max_s: float = SEEN_MAX_S) -> str:
    """Return who hosts a split that answers, once there is exactly one."""
    by_s = time.monotonic() + max_s
    while time.monotonic() < by_s:
        alive = [node for node in made.nodes.values() if node.process.poll() is None]
        found = [lay.names for node in alive if (lay := layout(node)) and len(lay.names) > 1]
        if len(found) == 1:
            return found[0][0]
        time.sleep(0.05)
    raise AssertionError("\n\n".join(f"{n}:\n{node.output}" for n, node in made.nodes.items()))


def workers_of(host: NodeProcess) -> tuple[str, ...]:
    """Return who works for this host now."""
    found = layout(host)
    return found.names[1:] if found else ()


def host_killed(made: MeshProcesses) -> float:
    """Kill the host of a split and return after how many seconds another member hosts it and answers."""
    old = host_of(made)
    began_s = time.monotonic()
    made.nodes[old].kill()
    heir = host_of(made)
    assert heir != old
    ready_answer(made.nodes[heir], SEEN_MAX_S)
    return time.monotonic() - began_s


def worker_replaced(made: MeshProcesses) -> float:
    """Kill the worker of a split of two out of three; return when the third computes in its place."""
    host = made.nodes[host_of(made)]
    (lost,) = workers_of(host)
    (rest,) = set(made.nodes) - {lost, host.status()["name"]}
    began_s = time.monotonic()
    made.nodes[lost].kill()
    wait_parts(host, host.status()["name"], rest, max_s=SEEN_MAX_S)
    answer(host)
    return time.monotonic() - began_s
