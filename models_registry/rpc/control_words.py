"""What the node and its lane process say to each other. PURE: typed messages and their bytes.

The node decides, the lane process does: it gets trust, addresses, grants and ports to open, and tells
what became of them. Both are one program in two processes of one version, so a message that cannot be
read is a fault of ours and ends the process.
"""

from typing import Final

import msgspec

from models_registry.rpc.counters import LoadCounters
from nodes.runtime.lane.lane import PeerStatus
from nodes.runtime.trust_records import Epoch, Revocation, Rotation

MESSAGE_MAX_BYTES: Final = 4 << 20
"""A trust with all its 1,024 revocations takes a tenth of it."""


class Command(msgspec.Struct):
    """A message of the node. With a `call` it is answered by `Done` or `Failed`."""

    call: int = 0


class SetTrust(Command, tag=True, kw_only=True):
    """Who this node is, and who is admitted. The first message, and again at each change."""

    seed: bytes
    """The node's private key, 32 bytes: never on a command line, in an environment or a file."""
    credential: bytes
    epochs: dict[int, Epoch]
    revocations: tuple[Revocation, ...]
    rotations: tuple[Rotation, ...]


class Listen(Command, tag=True, kw_only=True):
    """Accept connections; `Done.number` is the port. `host` None: on every interface."""

    host: str | None
    port: int


class SetEndpoint(Command, tag=True, kw_only=True):
    """A peer listens there; port 0: nowhere."""

    peer: str
    host: str
    port: int


class DropPeer(Command, tag=True, kw_only=True):
    """A peer is gone: end what there is with it."""

    peer: str


class GiveGrant(Command, tag=True, kw_only=True):
    """Let a host reach this machine's rpc-server; `Done.notes` says which files cannot be used."""

    port: int
    peer: str
    term: int
    files: list[str]


class Withdraw(Command, tag=True, kw_only=True):
    """Let nobody reach it any more."""

    port: int


class OpenPort(Command, tag=True, kw_only=True):
    """Open a local port that leads to a worker's rpc-server; `Done.number` is the port."""

    peer: str
    rpc_port: int
    term: int
    files: list[str]
    expected_bytes: int


class NameClient(Command, tag=True, kw_only=True):
    """Only this process may connect to that local port."""

    port: int
    pid: int
    identity: str


class ClosePort(Command, tag=True, kw_only=True):
    """Close a local port and what goes through it."""

    port: int


class Prepare(Command, tag=True, kw_only=True):
    """These files will be needed: hash their tensors in the background."""

    files: list[str]


class Share(Command, tag=True, kw_only=True):
    """Members may fetch these models: name -> files."""

    models: dict[str, list[str]]


class Fetch(Command, tag=True, kw_only=True):
    """Get a model from a peer; `Done.notes` are the files. Told meanwhile by `Progressed`."""

    peer: str
    model: str
    folder: str


class StopFetch(Command, tag=True, kw_only=True):
    """Give up the fetch of that call; what came is kept."""

    of_call: int


class Joined(Command, tag=True, kw_only=True):
    """A socket comes with this: it is joined to the QUIC stream that was wanted."""

    wish: int


class NotJoined(Command, tag=True, kw_only=True):
    """There is no QUIC stream."""

    wish: int
    reason: str


class Adopt(Command, tag=True, kw_only=True):
    """A socket comes with this: it is joined to a QUIC stream that this peer opened."""

    peer: str


AnyCommand = (
    SetTrust | Listen | SetEndpoint | DropPeer | GiveGrant | Withdraw | OpenPort | NameClient
    | ClosePort | Prepare | Share | Fetch | StopFetch | Joined | NotJoined | Adopt
)  # fmt: skip
CARRIES_SOCKET: Final = (Joined, Adopt)


class Done(msgspec.Struct, tag=True):
    """A call is done."""

    call: int
    number: int = 0
    notes: list[str] = []


class Failed(msgspec.Struct, tag=True):
    """A call failed; the reason is a clause for people."""

    call: int
    reason: str


class Progressed(msgspec.Struct, tag=True):
    """How far a fetch is."""

    call: int
    phase: str
    done_bytes: int
    total_bytes: int


class WantQuic(msgspec.Struct, tag=True):
    """TCP does not get through: join a QUIC stream to this peer."""

    wish: int
    peer: str


class PortLost(msgspec.Struct, tag=True):
    """A connection through a local port broke, and not by its client: that engine has lost its worker."""

    port: int
    reason: str


class PortReport(msgspec.Struct):
    """A local port of this host, and what went through it."""

    port: int
    peer: str
    rpc_port: int
    term: int
    load: LoadCounters


class ServerReport(msgspec.Struct):
    """An rpc-server of this worker, and what went to it."""

    port: int
    peer: str
    """The host that may reach it."""
    term: int
    load: LoadCounters


class Report(msgspec.Struct, tag=True):
    """The state of the lane; sent when it has changed, once a second at most."""

    peers: list[PeerStatus] = []
    ports: list[PortReport] = []
    servers: list[ServerReport] = []
    refused: dict[str, int] = {}
    """Handshakes that ended, by reason."""


AnyNotice = Done | Failed | Progressed | WantQuic | PortLost | Report
