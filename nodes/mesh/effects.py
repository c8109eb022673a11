"""What is to be done. Imperative; the only output of `MeshNode.handle`, carried out by the driver."""

from dataclasses import dataclass
from typing import Any

from nodes.mesh.gossip_effects import (
    CloseLink,
    OpenLink,
    ProbePort,
    PublishNotice,
    RememberContacts,
    ReportTwin,
    SendAnswer,
    SendDatagram,
    SendRequest,
)
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.plans import ServerPlan, WorkerPlan
from nodes.mesh.routing import RoutingTable


@dataclass(frozen=True, slots=True)
class StartServer:
    """Start an engine. Answered by ServerProgressed, then ServerReady or ServerExited."""

    plan: ServerPlan


@dataclass(frozen=True, slots=True)
class StopServer:
    """End an engine: its streams get `grace_s`, then TERM, TERM, KILL. Answered by ServerExited."""

    run_id: RunId
    grace_s: float


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start an rpc-server that only the plan's host can reach. Answered by WorkerReady or WorkerExited."""

    plan: WorkerPlan


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Let nobody reach an rpc-server any more, and end it. Answered by WorkerExited."""

    run_id: RunId


@dataclass(frozen=True, slots=True)
class ResolveModel:
    """The mesh wants this node to serve a model: find its file and read its header.

    Answered by `ModelResolving`, then `ModelWanted` or `ModelRefused`, each with `for_mesh`, and with
    this name as `asked_as` or `name`.
    """

    name: ModelName
    download: bool
    """True: it may be downloaded; False: it is said to be on disk."""


@dataclass(frozen=True, slots=True)
class PublishDelta:
    """What viewers see has changed: keys to put and keys to drop (see `snapshot`)."""

    put: dict[str, dict[str, Any]]
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeRoutes:
    """From now on requests are routed by this table."""

    table: RoutingTable


@dataclass(frozen=True, slots=True)
class RecordEvent:
    """One line of history for people: the console's timeline, MeshEvent, the log."""

    kind: str
    """A stable word: ``engine_ready``, ``engine_exited``, ``model_refused`` ..."""
    text: str
    """One plain sentence, naming the node or model."""
    level: str = "info"
    """``info``, ``warning`` or ``error``."""
    model: str = ""
    node_id: str = ""
    """The node that it is about; empty: this one, or none."""
    ballot: "Ballot | None" = None
    """Of an election."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """Who is to serve a model, as an election has it: kept beside its line of history."""

    term: int
    """How often the outcome for this model has changed on the node that tells it."""
    host: str
    """Node id; of several hosts, each on its own, the first by id."""
    workers: tuple[str, ...]
    """Node ids of a split's workers."""


@dataclass(frozen=True, slots=True)
class LeaveAndExit:
    """The node has nothing more to do: stop the process with this code."""

    exit_code: int
    reason: str


LinkEffect = SendDatagram | SendRequest | SendAnswer | OpenLink | CloseLink | ProbePort
"""What the transport carries out (`nodes.runtime.links`)."""

Effect = (
    StartServer
    | ResolveModel
    | StopServer
    | StartWorker
    | StopWorker
    | PublishDelta
    | ChangeRoutes
    | RecordEvent
    | LeaveAndExit
    | LinkEffect
    | RememberContacts
    | PublishNotice
    | ReportTwin
)
