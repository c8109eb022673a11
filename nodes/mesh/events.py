"""What happened. Past tense; the only input of `MeshNode.handle` besides the time."""

from collections.abc import Mapping
from dataclasses import dataclass

from nodes.mesh.ids import ModelName, NodeId, RunId
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.plans import EngineFacts
from nodes.mesh.resources import Resources


@dataclass(frozen=True, slots=True)
class EngineFound:
    """An engine was found, or installed."""

    engine: EngineFacts


@dataclass(frozen=True, slots=True)
class EngineUnavailable:
    """No engine could be found or installed. The node serves nothing until there is one."""

    reason: str


@dataclass(frozen=True, slots=True)
class ResourcesSampled:
    """A fresh sample of the machine."""

    resources: Resources


@dataclass(frozen=True, slots=True)
class ModelResolving:
    """A wanted model is being looked for, checked or downloaded."""

    name: ModelName
    phase: str
    """One word or two for people: ``looking``, ``downloading``, ``checking``."""
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelWanted:
    """A model is on disk, its header was read, and this node is to serve it if it fits."""

    model: ModelFacts
    draft: ModelFacts | None = None
    asked_as: ModelName | None = None
    """The name under which it was being resolved; None: its own."""
    for_mesh: bool = False
    """True: the answer to `ResolveModel`; False: the node's operator asked for it."""


@dataclass(frozen=True, slots=True)
class ModelRefused:
    """A wanted model cannot be served: not found, broken, not enough disk."""

    name: ModelName
    reason: str
    for_mesh: bool = False
    """True: the answer to `ResolveModel`."""


@dataclass(frozen=True, slots=True)
class ServerProgressed:
    """A starting engine got further."""

    run_id: RunId
    phase: str
    """``starting``, ``loading``, ``warming`` (the one-token request)."""
    fraction: float | None = None
    """0 to 1; None when the engine does not tell."""


@dataclass(frozen=True, slots=True)
class ServerReady:
    """The engine answered a real one-token request."""

    run_id: RunId
    host: str
    port: int
    pid: int
    slots: int
    context: int
    """Tokens of context for each slot, as the engine reports them."""
    load_s: float


@dataclass(frozen=True, slots=True)
class ServerDrafted:
    """How well an engine's draft model guesses, since that engine's start."""

    run_id: RunId
    guessed: int
    """Tokens that the draft proposed."""
    accepted: int
    """Those of them that the model would have said itself."""


@dataclass(frozen=True, slots=True)
class ServerExited:
    """The engine is gone, asked or not."""

    run_id: RunId
    returncode: int | None
    """None when it never started."""
    reason: str
    """One sentence with the engine's own last words where they help."""
    asked: bool
    """True when a StopServer caused it."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """An rpc-server listens, and the host of its plan can reach it."""

    run_id: RunId
    port: int
    """On loopback."""
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """An rpc-server is gone, asked or not. Told once for each StartWorker."""

    run_id: RunId
    reason: str
    """One sentence."""
    asked: bool
    """True when a StopWorker caused it."""


@dataclass(frozen=True, slots=True)
class LaneLine:
    """What passes between this node and one peer for the sake of a split."""

    peer: NodeId
    via: str
    """``lane`` (TCP) or ``quic`` (the fallback)."""
    bytes_sent: int = 0
    """Of weights and activations, since the split's start."""
    bytes_saved: int = 0
    """Of weights that the worker had in its own file."""
    bytes_per_s: float = 0.0
    loaded_bytes: int = 0
    expected_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LaneSampled:
    """What passes for this node's splits, as host and as worker; once a second at most, when it changed."""

    lines: tuple[LaneLine, ...]


@dataclass(frozen=True, slots=True)
class ServerLoadSampled:
    """What a ready engine is doing. Travels apart from the announcement and bumps no incarnation."""

    model: ModelName
    in_flight: int
    requests: int
    """Finished since the node's start."""
    tokens: int
    """Streamed or counted from usage since the node's start."""
    requests_per_s: float
    tokens_per_s: float
    ttfb_p50_ms: float | None


@dataclass(frozen=True, slots=True)
class DropRequested:
    """The operator wants a model served no longer."""

    name: ModelName
    leave_after: bool
    """True: a node left with no model leaves the mesh and exits 0 (scenario 9)."""


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """The operator wants a node of the mesh, this one or another, to serve nothing for now."""

    node_id: NodeId
    drained: bool
    """False: it is to serve again."""


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """The operator wants a failed or running engine started afresh."""

    name: ModelName


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The node is to stop: drain, end the engines, leave."""

    reason: str


@dataclass(frozen=True, slots=True)
class AnswersFinished:
    """After `StopRequested`: no answer is open here any more, whoever asked and whoever computes it."""


@dataclass(frozen=True, slots=True)
class DiskScanned:
    """The models folder was looked through: these could be served from this node's own disk."""

    models: tuple[ModelFacts, ...]


@dataclass(frozen=True, slots=True)
class ModelsAskedFor:
    """The operator asks the mesh, not this node, for these (`--model` beyond the first)."""

    names: tuple[ModelName, ...]


@dataclass(frozen=True, slots=True)
class CatalogueKnown:
    """What could be downloaded, with its size, under each name that `ResolveModel` takes."""

    sizes_bytes: Mapping[ModelName, int]


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """Where others can dial this node now, best first: ``host:port``."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeerForgotten:
    """An operator wants a node that died or left out of sight."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`MeshNode.deadline` has been reached. Carries nothing: the time is `now`."""


Event = (
    EngineFound
    | EngineUnavailable
    | ResourcesSampled
    | ModelResolving
    | ModelWanted
    | ModelRefused
    | ServerProgressed
    | ServerReady
    | ServerExited
    | WorkerReady
    | WorkerExited
    | LaneSampled
    | ServerDrafted
    | ServerLoadSampled
    | DropRequested
    | DrainRequested
    | RestartRequested
    | StopRequested
    | AnswersFinished
    | DiskScanned
    | ModelsAskedFor
    | CatalogueKnown
    | AddressesChanged
    | PeerForgotten
    | TimePassed
)
