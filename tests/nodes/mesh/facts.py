"""Facts for tests of the serving half: small models, an engine, a machine."""

from dataclasses import replace

from nodes.mesh.events import (
    EngineFound,
    ModelWanted,
    ResourcesSampled,
    ServerExited,
    ServerReady,
)
from nodes.mesh.ids import ModelName, NodeId, RunId
from nodes.mesh.model_facts import Capability, ModelFacts
from nodes.mesh.node import MeshNode
from nodes.mesh.placement import ServingOptions
from nodes.mesh.plans import EngineFacts
from nodes.mesh.resources import Resources
from nodes.mesh.view import Me

ENGINE = EngineFacts("/opt/llama-server", "/opt/ggml-rpc-server", "0.7.0", "11669", "8", "PATH")

ME = Me(
    node_id=NodeId("ab" * 32),
    name="llama-box",
    version="0.1.0",
    mesh_id="cd" * 16,
    started_at=1_700_000_000,
    is_client=False,
    api_port=9337,
    console_port=3131,
    quic_port=7842,
    api_url="http://localhost:9337",
    console_url="http://localhost:3131",
)

MACHINE = Resources(
    offered_bytes=16_000_000_000,
    ram_total_bytes=24_000_000_000,
    ram_available_bytes=20_000_000_000,
    cpu_count=2,
    cpu_percent=3.0,
    process_rss_bytes=80_000_000,
    engine_rss_bytes=0,
)


def model(name: str = "tiny", size_bytes: int = 3_000_000) -> ModelFacts:
    """Return a small llama whose cache is known."""
    return ModelFacts(
        name=ModelName(name),
        path=f"/models/{name}.gguf",
        shards=(f"/models/{name}.gguf",),
        size_bytes=size_bytes,
        architecture="llama",
        quantisation="F16",
        parameters=1_000_000,
        layers=6,
        context_train=4096,
        embedding_length=128,
        vocab_size=1024,
        kv_bytes_per_token=1536,
        capabilities=frozenset({Capability.CHAT}),
        chat_template=True,
    )


def machine(offered_bytes: int) -> Resources:
    """Return the machine with this much memory to offer."""
    return replace(MACHINE, offered_bytes=offered_bytes)


def ready(run_id: int, port: int = 40000) -> ServerReady:
    """Return an engine's readiness."""
    return ServerReady(RunId(run_id), "127.0.0.1", port, 4242, slots=4, context=4096, load_s=0.5)


def exited(
    run_id: int, *, asked: bool = False, reason: str = "it was killed (-9)."
) -> ServerExited:
    """Return an engine's end."""
    return ServerExited(RunId(run_id), -9, reason, asked)


def serving_node(*names: str, options: ServingOptions | None = None) -> MeshNode:
    """Return a node with engine and memory that was asked for these models at second 0."""
    node = MeshNode(ME, options or ServingOptions())
    node.handle(EngineFound(ENGINE), 0.0)
    node.handle(ResourcesSampled(MACHINE), 0.0)
    for name in names:
        node.handle(ModelWanted(model(name)), 0.0)
    return node
