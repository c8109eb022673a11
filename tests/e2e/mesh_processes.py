"""Several whole nodes as processes on one machine, joined into one mesh over real QUIC on loopback."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.node_process import NodeProcess


class MeshProcesses:
    """The nodes by name. Made by `mesh`."""

    def __init__(self, folder: Path, engine: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._engine = engine
        self._stack = stack
        self.nodes: dict[str, NodeProcess] = {}

    def start(
        self, name: str, *args: str, join: str | None = None, until: str = "open", **env: str
    ) -> NodeProcess:
        """Start a node; started again under a name of before it has the same home and so the same key."""
        words = ["--name", name, *(() if "--console" in args else ("--no-console",)), *args]
        if join is not None:
            words += ["--join", join]
        made: Any = NodeProcess  # the keywords are variables of the environment
        node: NodeProcess = made(
            self._folder / name, *words, engine=self._engine, until=until, **env
        )
        self.nodes[name] = self._stack.enter_context(node)
        return node

    def token(self, name: str) -> str:
        """Return the start-up token of a node, once it is in a mesh."""
        node = self.nodes[name]
        found: str = node.wait_for(lambda: node.status().get("token"), "a token")
        return found


@contextmanager
def mesh(folder: Path, engine: Path) -> Iterator[MeshProcesses]:
    """Yield an empty mesh; every node of it is ended at the end."""
    with ExitStack() as stack:
        yield MeshProcesses(folder, engine, stack)


def states(node: NodeProcess) -> dict[str, str]:
    """Return the state of every other node by name, as this node sees it."""
    return {peer["name"]: peer["state"] for peer in node.status()["peers"]}


def wait_states(node: NodeProcess, wanted: dict[str, str], max_s: float = 15.0) -> None:
    """Wait until this node sees exactly these others in these states."""
    node.wait_for(lambda: states(node) == wanted, f"table {wanted} (now {states(node)})", max_s)


def wait_state(node: NodeProcess, name: str, wanted: str, max_s: float = 15.0) -> None:
    """Wait until this node sees the other one in this state."""
    node.wait_for(lambda: states(node).get(name) == wanted, f"{name} {wanted}", max_s)


def freeze(node: NodeProcess) -> None:
    """Stop the process where it stands: to the others it falls silent, as when the power goes."""
    node.process.send_signal(signal.SIGSTOP)


def thaw(node: NodeProcess) -> None:
    """Let a frozen process go on."""
    node.process.send_signal(signal.SIGCONT)


def seconds_until(conditions: dict[str, Callable[[], Any]], max_s: float) -> dict[str, float]:
    """Return when each condition came true, in seconds from now.

    Raises AssertionError, naming the conditions that did not within `max_s`.
    """
    began, left, found = time.monotonic(), dict(conditions), {}
    while left:
        for name, condition in tuple(left.items()):
            if condition():
                found[name] = time.monotonic() - began
                del left[name]
        assert time.monotonic() - began < max_s, f"not within {max_s} s: {sorted(left)}"
        time.sleep(0.01)
    return found
