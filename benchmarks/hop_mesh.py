"""A small mesh for the hop's figures: hosts with fake engines, an entry node without one, all processes."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.hop_node import MODEL, HopSpec
from benchmarks.process import REPO, TargetFailed, free_port, start, stop, wait_until_ok
from benchmarks.target import FAKE_TOKEN_MARK, Endpoint
from nodes.runtime import mesh_key

START_LIMIT_S = 20.0


@dataclass(slots=True)
class HopNode:
    """One running process."""

    process: "subprocess.Popen[bytes]"
    node_id: str
    endpoint: Endpoint
    quic_port: int


@dataclass(slots=True)
class HopMesh:
    """Engines, hosts and the entry."""

    scratch: Path
    engine: Path
    profile: str = ""
    key: mesh_key.MeshKey = field(default_factory=mesh_key.new_mesh)
    hosts: list[HopNode] = field(default_factory=list)
    engines: list[Endpoint] = field(default_factory=list)
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def entry(self) -> HopNode:
        """Start and return the node that asks the hosts. Raises TargetFailed."""
        hosts = {host.node_id: host.quic_port for host in self.hosts}
        return self._start("entry", HopSpec("", b"", 0, 0, hosts=hosts), self.hosts[0].endpoint)

    def add_host(self) -> None:
        """Start an engine, and a node that serves it. Raises TargetFailed."""
        port = free_port()
        argv = [f"{self.engine}/llama-server", "-m", MODEL, "--host", "127.0.0.1"]
        process = start([*argv, "--port", str(port)], self.scratch / f"engine-{port}.log")
        self.processes.append(process)
        wait_until_ok(process, port, "/health", START_LIMIT_S)
        engine = Endpoint(port, MODEL, port, FAKE_TOKEN_MARK)
        self.engines.append(engine)
        name = f"host{len(self.hosts)}"
        self.hosts.append(self._start(name, HopSpec("", b"", 0, 0, engine_port=port), engine))

    def close(self) -> None:
        """Stop everything."""
        for process in reversed(self.processes):
            stop(process)
        self.processes.clear()

    def _start(self, name: str, spec: HopSpec, engine: Endpoint) -> HopNode:
        spec.mesh_id, spec.seed = self.key.mesh_id, self.key.seed
        spec.api_port, spec.quic_port = free_port(), free_port()
        spec.profile = f"{self.profile}-{name}" if self.profile else ""
        with (self.scratch / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.hop_node"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=REPO,
                env=dict(os.environ) | {"PYTHONPATH": str(REPO)},
                start_new_session=True,
            )
        self.processes.append(process)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(spec))
        process.stdin.close()
        began_s = time.monotonic()
        line = process.stdout.readline().decode().split()
        if line[:1] != ["ready"]:
            raise TargetFailed(f"{name} did not start ({time.monotonic() - began_s:.0f} s)")
        way = Endpoint(spec.api_port, engine.model, engine.engine_port, engine.token_mark)
        return HopNode(process, line[1], way, spec.quic_port)
