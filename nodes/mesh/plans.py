"""What an engine run is to look like. Made by placement, turned into argv by `models_registry.launch`."""

from dataclasses import dataclass

from nodes.mesh.ids import ModelName, NodeId, RunId
from nodes.mesh.model_facts import ModelFacts


@dataclass(frozen=True, slots=True)
class WorkerSeat:
    """A worker of a split, as its host's engine reaches it."""

    node_id: NodeId
    rpc_port: int
    """The loopback port of its rpc-server, on its own machine."""
    layers: int


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How a model is spread over this host and its workers, in one term."""

    term: int
    workers: tuple[WorkerSeat, ...]
    """In the order in which the engine gets them, nearest first; the host's own devices come after."""
    host_layers: tuple[int, ...]
    """Layers for each device of the host, in the engine's order; one entry where `rpc_self` stands for
    them. The counts of everybody add up to the model's blocks; the output is one more on the last."""


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """One llama-server to run on this node."""

    run_id: RunId
    model: ModelFacts
    context: int
    """Tokens of context for each slot."""
    parallel: int
    """Slots: requests answered at the same time. The engine's ``-c`` is `context` x `parallel`."""
    draft: ModelFacts | None = None
    draft_max: int = 8
    rpc_self: bool = False
    """Run an own rpc-server and put it into ``--rpc`` (scenarios 1 and 3, taken literally)."""
    device: str | None = None
    """``--device`` as the operator gave it; None: the engine's own choice."""
    tensor_split: tuple[float, ...] | None = None
    """As the operator gave it, for a model that this node serves alone; None: the engine's own choice."""
    split: SplitPlan | None = None
    """None: this node runs the whole model."""

    @property
    def name(self) -> str:
        """The model's name: what the run is called in logs and on the console."""
        return self.model.name


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """One rpc-server to run on this node for another node's split."""

    run_id: RunId
    model: ModelName
    host: NodeId
    """The only node that may reach it,"""
    term: int
    """and only in this term."""
    layers: int
    files: tuple[str, ...]
    """This node's own files of the model, the first part first: weights are fed from them. Empty: none."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The llama.cpp in use: what was found, and what it can do."""

    server_path: str
    rpc_server_path: str | None
    """None when this build has no rpc-server: the node can serve alone but not take part in a split."""
    version: str
    build: str
    rpc_version: str
    """The RPC protocol's version as far as the build tells; empty when it does not."""
    source: str
    """Where it came from: ``--bin-dir``, ``home``, ``PATH``."""
