"""What the measurements of whole meshes stand on: models made here, nodes as processes, loopback only."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.mesh.ask import answer
from benchmarks.target import Ground
from models_registry.demo.synthesize import synthesize
from tests.e2e.mesh_processes import MeshProcesses, mesh
from tests.e2e.node_process import NodeProcess

MODELS = ("tiny", "draft")
WORDS = ("mesh", "node", "model", "layer", "memory", "request", "answer", "stream", "cache", "slot",
         "host", "route", "river", "stone")  # fmt: skip
HOSTS_KNOWN_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Stage:
    """An empty mesh, and the folder of the models that its nodes may serve."""

    nodes: MeshProcesses
    models: Path

    def host(self, name: str, *args: str, join: str | None = None) -> NodeProcess:
        """Start a node and wait until it lists a model of its own or another's."""
        words = ("--models-dir", str(self.models), *args)
        return self.nodes.start(name, *words, join=join, until="ready")

    def two_hosts(self) -> tuple[NodeProcess, NodeProcess]:
        """Start box-a and box-b, which both serve tiny."""
        a = self.host("box-a", "--model", "tiny")
        b = self.host("box-b", "--model", "tiny", join=self.nodes.token("box-a"))
        wait_hosts(a, "tiny", 2)
        return a, b

    def entry(self, name: str = "entry", *, client: bool = False) -> NodeProcess:
        """Start a third node that has no model: a full member, or a passive client."""
        words = ["--client"] if client else []
        node = self.nodes.start(name, *words, join=self.nodes.token("box-a"))
        wait_both(node)
        return node


@contextmanager
def stage(ground: Ground) -> Iterator[Stage]:
    """Yield an empty mesh on real engines; everything that was started is ended afterwards."""
    assert ground.real_engine is not None
    with TemporaryDirectory(dir=ground.scratch, prefix="mesh-") as folder:
        models = Path(folder) / "models"
        for name in MODELS:
            synthesize(models / f"{name}.gguf", name)
        with mesh(Path(folder), ground.real_engine) as nodes:
            yield Stage(nodes, models)


def hosts(node: NodeProcess, model: str) -> int:
    """Return how many nodes answer for the model, as this node sees it."""
    return sum(m["node_count"] for m in node.status()["mesh_models"] if m["name"] == model)


def wait_hosts(node: NodeProcess, model: str, count: int) -> None:
    """Wait until this node knows so many hosts of the model."""
    node.wait_for(
        lambda: hosts(node, model) == count, f"{count} hosts of {model}", HOSTS_KNOWN_LIMIT_S
    )


def wait_both(node: NodeProcess) -> None:
    """Wait until requests through this node reach two hosts of tiny: a client tells no status."""
    seen: set[str] = set()

    def reached() -> bool:
        body = {"model": "tiny", "prompt": "mesh", "max_tokens": 1}
        reply = asyncio.run(answer(node.port, "/v1/completions", body))
        if reply.status == 200:
            seen.add(reply.node)
        return len(seen) == 2

    node.wait_for(reached, "answers of both hosts", HOSTS_KNOWN_LIMIT_S)


def lists(node: NodeProcess, model: str) -> bool:
    """Return whether this node's API lists the model: it routes by the same table."""
    return any(entry["id"] == model for entry in node.get("/v1/models")[1]["data"])
