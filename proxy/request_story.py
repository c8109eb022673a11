"""What became of a request, for people: plain documents for the console, the same in sentences.

PURE. Made from records when somebody asks, so that a request costs nothing for being explainable.
"""

from collections.abc import Iterable
from typing import Any

from nodes.mesh.routing import NODE_ID_SHOWN
from nodes.mesh.routing_order import Place, Reason
from proxy.records import Outcome, RequestRecord, Tried
from proxy.router import Choice

STORIES_MAX = 200
"""Documents given at once; more are not asked for by a page."""

_WHY = {
    Reason.ONLY: "nobody else serves the model",
    Reason.CONVERSATION: "it answered this conversation before, so its memory holds the prompt",
    Reason.LOAD: "by load",
    Reason.DOUBTFUL: "it may lack context or a capability that the request needs",
    Reason.BREAKER: "it failed several requests in a row lately",
    Reason.LATE: "it is suspect or late, so it is a last resort",
}


def stories(
    records: Iterable[RequestRecord], limit: int = STORIES_MAX, request_id: str | None = None
) -> list[dict[str, Any]]:
    """Return the last requests, or those with this id, as plain documents, newest first."""
    newest = [r for r in records if request_id is None or r.id == request_id]
    newest.reverse()
    return [story(record) for record in newest[: min(limit, STORIES_MAX)]]


def story(record: RequestRecord) -> dict[str, Any]:
    """Return one request as a document of plain values; ``text`` tells it in sentences."""
    return {
        "id": record.id,
        "ended": round(record.ended_s, 3),
        "path": record.path,
        "asked": record.asked,
        "model": record.model,
        "node": record.node,
        "node_name": _shown(record, record.node),
        "asked_by": record.asked_by,
        "status": record.status,
        "outcome": record.outcome.value,
        "streamed": record.streamed,
        "ttfb_ms": _rounded(record.ttfb_ms),
        "total_ms": _rounded(record.total_ms),
        "tokens": record.tokens,
        "prompt_tokens": record.prompt_tokens,
        "hosts": record.choice.hosts if record.choice else 0,
        "candidates": [_candidate(place) for place in _places(record)],
        "tries": [
            {
                "node": tried.node,
                "name": tried.shown,
                "reason": tried.reason,
                "after_ms": _rounded(tried.after_ms),
            }
            for tried in _tries(record)
        ],
        "fault": _fault(record),
        "text": sentences(record),
    }


def sentences(record: RequestRecord) -> list[str]:
    """Return what happened, in order, one sentence each."""
    told = [_asked(record)]
    if record.choice is not None:
        told.append(_chosen(record.choice))
        told.extend(
            f"{tried.shown} {tried.reason} ({_time(tried.after_ms)})." for tried in _tries(record)
        )
    told.append(_end(record, _shown(record, record.node)))
    return told


def _asked(record: RequestRecord) -> str:
    if record.asked_by:
        peer = record.asked_by[:NODE_ID_SHOWN]
        return f"{record.path} was asked by node {peer} for '{record.model}'."
    asked = f"'{record.asked}'" if record.asked else "any model"
    meant = f", which means '{record.model}'" if record.model not in ("", record.asked) else ""
    return f"{record.path} was asked for {asked}{meant}."


def _places(record: RequestRecord) -> tuple[Place, ...]:
    return record.choice.places if record.choice is not None else ()


def _tries(record: RequestRecord) -> tuple[Tried, ...]:
    return record.trouble.tries if record.trouble is not None else ()


def _fault(record: RequestRecord) -> str:
    return record.trouble.fault if record.trouble is not None else ""


def _chosen(choice: Choice) -> str:
    first = choice.places[0]
    shown, why = first.upstream.shown, _WHY[first.reason]
    if first.reason is Reason.ONLY:
        return f"{shown} was asked: {why}."
    others = "; ".join(_figures(place) for place in choice.places)
    untold = choice.hosts - len(choice.places)
    more = f"; {untold} further hosts were not looked at" if untold > 0 else ""
    return f"{shown} was asked first: {why}. In this order: {others}{more}."


def _figures(place: Place) -> str:
    figures = place.figures
    if figures is None:
        return place.upstream.shown
    parts = [f"{figures.busy:.0f} of {figures.slots} slots taken"]
    if figures.failures:
        parts.append(f"failures weigh {figures.failures:.1f}")
    if figures.ttfb_ms is not None:
        parts.append(f"first byte after {_time(figures.ttfb_ms)}")
    if place.reason not in (Reason.LOAD, Reason.CONVERSATION):
        parts.append(place.reason.value)
    return f"{place.upstream.shown} ({', '.join(parts)})"


def _end(record: RequestRecord, node: str) -> str:
    total = _time(record.total_ms)
    match record.outcome:
        case Outcome.ANSWERED:
            first = f" after {_time(record.ttfb_ms)}" if record.ttfb_ms is not None else ""
            tokens = f", {record.tokens} tokens" if record.tokens else ""
            return f"{node} answered with status {record.status}{first}{tokens}; {total} in all."
        case Outcome.CLIENT_GONE:
            return f"The client left after {total}; the engine was told at once."
        case Outcome.BROKEN_OFF:
            return f"The answer of {node} broke off after {total}: {_fault(record)}"
        case Outcome.STOPPED:
            why = _fault(record) or "the node or its engine stopped."
            return f"It was ended here after {total}: {why}"
        case Outcome.REFUSED:
            said = _fault(record) or "no reason was kept."
            return f"It was answered with an error, status {record.status}: {said}"


def _candidate(place: Place) -> dict[str, Any]:
    upstream, figures = place.upstream, place.figures
    return {
        "node": upstream.node_id,
        "name": upstream.shown,
        "reason": place.reason.value,
        "late": place.late,
        "slots": upstream.slots,
        "context": upstream.context,
        "pressure": _rounded(figures.pressure) if figures else None,
        "busy": figures.busy if figures else None,
        "failures": _rounded(figures.failures) if figures else None,
        "ttfb_ms": _rounded(figures.ttfb_ms) if figures else None,
        "rtt_ms": _rounded(upstream.rtt_ms),
    }


def _shown(record: RequestRecord, node_id: str) -> str:
    named = (p.upstream.shown for p in _places(record) if p.upstream.node_id == node_id)
    return next(named, node_id[:NODE_ID_SHOWN])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1_000 else f"{milliseconds / 1_000:.1f} s"
