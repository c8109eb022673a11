"""The running node as pages, commands and consumers see it: the one door from Django to the node.

`meshsite.compose` puts the running node here; views ask `current()` and get None while no node runs
in this process (management commands, a bare `check`).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from nodes.runtime.feed import Feed

AsgiApp = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]],
    Awaitable[None],
]
"""An ASGI 3 application."""


class LogSource(Protocol):
    """The last lines of the engines' output, numbered from 1 for each model."""

    def tail(self, model: str, after: int, limit: int) -> tuple[int, list[str]]:
        """Return (number of the first line returned, lines newer than `after`, at most `limit`)."""
        ...

    def models(self) -> list[str]:
        """Return the names that have a log."""
        ...


class Outcome(StrEnum):
    """How far an operator's request has come when its answer is given."""

    DONE = "done"
    """It is so now, as far as it concerns anybody."""
    BEGUN = "begun"
    """It was taken up and goes on: answers run out, a model loads. The live view shows the rest."""
    UNCONFIRMED = "unconfirmed"
    """It was asked of other nodes, and not all of them have said yet that it is so."""
    REFUSED = "refused"
    """Nothing was changed; the text says why."""


@dataclass(frozen=True, slots=True)
class OperatorResult:
    """What became of an operator's request."""

    ok: bool
    text: str
    """One sentence for people: the true outcome, or why not and what to do."""
    found: dict[str, Any] = field(default_factory=dict)
    """What was asked for, where an action answers with more than a sentence (a token, a list)."""
    outcome: Outcome = Outcome.DONE
    """What is not ok was refused, unless told otherwise."""

    def __post_init__(self) -> None:
        if not self.ok and self.outcome is Outcome.DONE:
            object.__setattr__(self, "outcome", Outcome.REFUSED)


class Operator(Protocol):
    """What an operator may ask of the node. Every call returns the true outcome."""

    async def drop(self, model: str) -> OperatorResult: ...
    async def load(self, model: str) -> OperatorResult: ...
    async def restart(self, model: str) -> OperatorResult: ...
    async def stop(self) -> OperatorResult: ...
    async def servable(self) -> OperatorResult:
        """`found`: ``{"models": [{name, on_disk, size_bytes, fits, verdict, capabilities}]}``."""
        ...

    async def why(self, model: str) -> OperatorResult:
        """`found`: ``{"why": document}``, see `nodes.mesh.reasons.why`."""
        ...

    async def tokens(self) -> OperatorResult:
        """`found`: ``{"tokens": [{id, label, issuer, expires_s, uses_left, clients_only, revoked}]}``."""
        ...

    async def new_token(
        self, hours: float, uses: int | None, clients_only: bool, label: str
    ) -> OperatorResult:
        """`found`: ``{"token", "id", "expires_s"}``; `uses` None: any number until it expires."""
        ...

    async def revoke_token(self, token_id: str) -> OperatorResult: ...
    async def rotate(self) -> OperatorResult:
        """Give the mesh a new key: every invite token of before ends; members fetch the new key."""
        ...

    async def forget(self, node_id: str) -> OperatorResult:
        """Take a node that died or left off the lists; it may come back by itself."""
        ...

    async def drain(self, node_id: str) -> OperatorResult:
        """Let a node, this one (empty) or another, serve nothing until undrained or started again."""
        ...

    async def undrain(self, node_id: str) -> OperatorResult: ...
    async def revoke(self, node_id: str) -> OperatorResult:
        """Withdraw a node's membership for good, everywhere."""
        ...

    async def block(self, node_id: str) -> OperatorResult:
        """Revoke, and take back the invite tokens by which the machine could come in anew."""
        ...

    async def diagnose(self, peer: str) -> OperatorResult:
        """`found`: ``{"checks": [{what, state: "ok" | "warning" | "failed", text}]}``."""
        ...

    async def approve(self, node_id: str) -> OperatorResult:
        """Let a waiting machine in (`pending/<node id>`)."""
        ...

    async def reject(self, node_id: str) -> OperatorResult:
        """Tell a waiting machine that it is not let in."""
        ...


@dataclass(frozen=True, slots=True)
class NodeHandle:
    """The running node."""

    node_id: str
    feed: Feed
    logs: LogSource
    operator: Operator
    api: AsgiApp
    """The /v1 application: chat pages call it in process."""
    status: Callable[[bool], dict[str, Any]]
    """`GET /api/status`; True for an operator, who may see the token."""
    invite_token: Callable[[], str]
    home_secret: str
    """Proves a local command line: whoever can read the node's home has it."""
    loopback_only: bool
    """True when API and console listen on loopback alone."""
    host_names: tuple[str, ...] = ()
    """Host names beyond loopback that pages may be asked under; ``*`` allows every name."""
    cors_origins: tuple[str, ...] = ()
    """Origins beyond loopback and the page's own that may open websockets and post."""
    metrics: Callable[[], bytes] | None = None
    """The text of `GET /metrics` (Prometheus), or None where there is none."""
    requests: Callable[[int], list[dict[str, Any]]] | None = None
    """The last requests, newest first, at most as many as asked: the documents of `proxy.request_story`."""
    series: Callable[[int], dict[str, Any]] | None = None
    """Charts over the last so many minutes, from a bounded store (`proxy.series`)."""
    why: Callable[[str], dict[str, Any]] | None = None
    """Why a model is served as it is: ``{model, decision, term, sentence, candidates: [{node_id, name,
    accepted, sentence}], needed: sentence}``."""
    can_join: bool = False
    """True once another machine can join this node: pages offer then what they must not promise now."""


_current: NodeHandle | None = None


def current() -> NodeHandle | None:
    """Return the node that runs in this process, or None."""
    return _current


def install(handle: NodeHandle | None) -> None:
    """Set the running node; called by the composition root alone."""
    global _current
    _current = handle
