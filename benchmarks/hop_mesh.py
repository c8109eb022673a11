"""A small mesh for the hop's figures: whole nodes as processes, fake engines, a client before them."""

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.process import REPO, TargetFailed, counted, free_port, start, stop
from benchmarks.target import FAKE_TOKEN_MARK, Endpoint, Ground
from benchmarks.target_node import engine_port, node_argv, node_env, served_model
from nodes.runtime import control_client
from nodes.runtime.control_client import NodeNotReached

START_LIMIT_S = 45.0
HOSTS_KNOWN_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class HopNode:
    """One node."""

    process: "subprocess.Popen[bytes]"
    home: Path
    endpoint: Endpoint

    def pids(self) -> list[int]:
        """Return the pids that count for it: the node's, without its engine."""
        return counted(self.process.pid)

    def status(self) -> dict[str, object]:
        """Return what `mesh-llm status --json` prints; empty when it does not answer."""
        try:
            found = control_client.call(self.home, "status", None, self.endpoint.port)
        except NodeNotReached:
            return {}
        document: dict[str, object] = found[1]
        return document


@dataclass(slots=True)
class HopMesh:
    """Hosts of one model, and a passive client that asks them: nothing is answered by the client itself."""

    ground: Ground
    hosts: list[HopNode] = field(default_factory=list)
    _started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def add_host(self) -> HopNode:
        """Start a node that serves the model, in the mesh of the first. Raises TargetFailed."""
        name = f"hop-host-{len(self.hosts)}"
        join = ["--join", self._token()] if self.hosts else []
        host = self._start(name, ["--model", str(_model(self.ground)), "--name", name, *join])
        self.hosts.append(host)
        return host

    def entry(self) -> HopNode:
        """Start the client, and return it once it knows every host. Raises TargetFailed."""
        node = self._start("hop-entry", ["--client", "--join", self._token()])
        limit = time.monotonic() + HOSTS_KNOWN_LIMIT_S
        while _hosts_known(node) < len(self.hosts):
            if time.monotonic() > limit:
                raise TargetFailed("the client did not learn of every host")
            time.sleep(0.1)
        return node

    def engine(self) -> Endpoint:
        """Return the way to the first host's engine itself."""
        port = self.hosts[0].endpoint.engine_port
        return Endpoint(port, "fake", port, FAKE_TOKEN_MARK)

    def close(self) -> None:
        """Stop everything, what was started last first."""
        for process in reversed(self._started):
            stop(process)
        self._started.clear()

    def _token(self) -> str:
        limit = time.monotonic() + START_LIMIT_S
        while not (token := self.hosts[0].status().get("token")):
            if time.monotonic() > limit:
                raise TargetFailed("the first host gave no token")
            time.sleep(0.1)
        return str(token)

    def _start(self, name: str, words: list[str]) -> HopNode:
        port = free_port()
        home = self.ground.scratch / name
        argv = node_argv(self.ground.fake_engine, port, "--no-console", *words)
        process = start(argv, self.ground.scratch / f"{name}.log", node_env(home))
        self._started.append(process)
        limit = time.monotonic() + START_LIMIT_S
        while True:
            try:
                # A host lists the model before its own engine runs, where another serves it already.
                client = "--client" in words
                engine = self.engine().port if client else engine_port(process.pid)
                if model := served_model(port):
                    way = Endpoint(port, model, engine, FAKE_TOKEN_MARK)
                    return HopNode(process, home, way)
            except TargetFailed:
                pass
            if process.poll() is not None or time.monotonic() > limit:
                raise TargetFailed(f"{name} did not serve")
            time.sleep(0.05)


def _model(ground: Ground) -> Path:
    """Return the model file that every host is told: the fake engine looks at its header at most."""
    return ground.model or next((REPO / "models_registry" / "demo").rglob("*.gguf"))


def _hosts_known(node: HopNode) -> int:
    models = node.status().get("mesh_models")
    return max((m["node_count"] for m in models), default=0) if isinstance(models, list) else 0
