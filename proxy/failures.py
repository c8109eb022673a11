"""What a client is told when hosts failed its request: who was asked, what each said, what to do.

PURE. One table from what went wrong to the fault; `openai` makes the answer of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from nodes.mesh.routing import Upstream
from proxy.openai import Fault, FaultKind, loading_fault
from proxy.upstream import UpstreamError, UpstreamTrouble


class Try(NamedTuple):
    """One host that was asked and could not answer."""

    upstream: Upstream
    error: UpstreamError
    after_ms: float
    """From being asked to being given up."""


_NOT_READY = (UpstreamTrouble.NOT_SERVED, UpstreamTrouble.DRAINING, UpstreamTrouble.GONE)
_SLOW = (UpstreamTrouble.SLOW, UpstreamTrouble.SILENT)


def reason(error: UpstreamError) -> str:
    """Return what a host said or did, as the end of a sentence that begins with it."""
    said = f": {error.text}" if error.text else ""
    return f"{error.trouble.value}{said}"


def failure_fault(model: str, tries: Sequence[Try], hosts: int, retry_after_s: int) -> Fault:
    """Return the fault of a request that every host it was sent to has failed.

    `hosts`: how many serve the model; more than `tries` where the bound on tries was met.
    """
    if not tries:
        return Fault(FaultKind.BROKEN, "No host was asked.")
    if len(tries) == 1 and hosts == 1:
        return _only_host(model, tries[0], retry_after_s)
    troubles = [t.error.trouble for t in tries]
    told = "; ".join(f"{t.upstream.shown} {reason(t.error)}" for t in tries)
    more = f" {hosts - len(tries)} further hosts were not tried." if hosts > len(tries) else ""
    text = f"No host could answer with '{model}': {told}.{more} Ask again shortly."
    if all(trouble is UpstreamTrouble.LOADING for trouble in troubles):
        furthest = max(tries, key=lambda t: t.error.progress or 0.0).error
        fault = loading_fault(model, retry_after_s, furthest.progress, furthest.phase)
        fault.message = text
        return fault
    if all(trouble in (UpstreamTrouble.BUSY, UpstreamTrouble.LOADING) for trouble in troubles):
        return Fault(FaultKind.OVERLOADED, text, retry_after_s=retry_after_s)
    if all(trouble in _SLOW for trouble in troubles):
        return Fault(FaultKind.UPSTREAM_SLOW, text)
    return Fault(FaultKind.UPSTREAM_DIED, text)


def _only_host(model: str, tried: Try, retry_after_s: int) -> Fault:
    upstream, error = tried.upstream, tried.error
    text = f"The engine of '{model}' on node {upstream.shown} {reason(error)}"
    match error.trouble:
        case UpstreamTrouble.LOADING:
            return loading_fault(model, retry_after_s, error.progress, error.phase)
        case UpstreamTrouble.SLOW:
            return Fault(FaultKind.UPSTREAM_SLOW, f"{text}, and no other node serves the model.")
        case UpstreamTrouble.BUSY:
            return Fault(
                FaultKind.OVERLOADED, f"{text}; try again shortly.", retry_after_s=retry_after_s
            )
        case UpstreamTrouble.TOO_LARGE:
            return Fault(FaultKind.TOO_LARGE, f"{text}.")
        case UpstreamTrouble.LINK_LOST | UpstreamTrouble.SILENT:
            text = f"The node {upstream.shown}, the only one that serves '{model}', {reason(error)}"
            slow = error.trouble is UpstreamTrouble.SILENT
            kind = FaultKind.UPSTREAM_SLOW if slow else FaultKind.UPSTREAM_DIED
            return Fault(kind, f"{text}. Ask again: it may be back, or another take its place.")
        case trouble if trouble in _NOT_READY:
            text += ", and no other node serves the model; try again shortly."
            return Fault(FaultKind.NOTHING_SERVED, text, retry_after_s=retry_after_s)
        case _:
            again = "the node starts it again by itself"
            return Fault(
                FaultKind.UPSTREAM_DIED, f"{text}, and no other node could answer; {again}."
            )


def broken_fault(error: UpstreamError, model: str, upstream: Upstream) -> Fault:
    """Return the fault of an answer that broke after its first byte."""
    match error.trouble:
        case UpstreamTrouble.SLOW:
            text = f"The engine of '{model}' fell silent in the middle of the answer; ask again."
            return Fault(FaultKind.UPSTREAM_SLOW, text)
        case UpstreamTrouble.LINK_LOST:
            text = (
                f"The link to node {upstream.shown}, which was answering with '{model}', was lost; "
                "ask again."
            )
            return Fault(FaultKind.UPSTREAM_DIED, text)
        case UpstreamTrouble.DRAINING:
            said = f"'{model}' is being stopped on node {upstream.shown}; ask again."
            return Fault(FaultKind.STOPPING, error.text or said)
        case _:
            text = f"The engine of '{model}' failed in the middle of the answer; ask again."
            return Fault(FaultKind.UPSTREAM_DIED, text)
