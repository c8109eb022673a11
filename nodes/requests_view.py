"""What was asked and how it went: the last requests, and charts from a bounded store.

Charts of the last day come from memory; what was before this process began is filled in by the hour
from `proxy.models.Usage`, which knows requests, errors and tokens of each model, but no times.
"""

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from nodes.middleware import refuse
from nodes.runtime import handle as node_handle
from nodes.views import no_node

SPANS_MAX = 8
"""Different spans whose last chart is kept."""

REQUESTS_MAX = 200
"""Requests in one answer."""

MINUTES_MAX = 24 * 60
"""The longest span of a chart."""

HOUR_S = 3600

CHARTS_FRESH_S = 4.0
"""A chart is put together again after this long; tabs that ask sooner share the last one."""

_last: dict[int, tuple[float, object, dict[str, Any]]] = {}
"""Minutes to (when on the monotonic clock, whose, the document)."""

UsageRow = tuple[datetime, str, int, int, int]
"""(hour, model, requests, errors, completion tokens)."""


@never_cache
@require_safe
async def requests(request: HttpRequest) -> HttpResponse:
    """Return the last ``?limit=`` requests as plain documents, newest first."""
    if (handle := node_handle.current()) is None:
        return no_node()
    if handle.requests is None:
        return JsonResponse({"requests": []})
    limit = _whole(request.GET.get("limit", "100"), REQUESTS_MAX)
    if limit is None:
        return refuse(400, "bad_number", "limit must be a whole number from 1 on.")
    return JsonResponse({"requests": handle.requests(limit)})


@never_cache
@require_safe
async def charts(request: HttpRequest) -> HttpResponse:
    """Return the lines of the last ``?minutes=``; see `proxy.series`."""
    if (handle := node_handle.current()) is None:
        return no_node()
    minutes = _whole(request.GET.get("minutes", "60"), MINUTES_MAX)
    if minutes is None:
        return refuse(400, "bad_number", "minutes must be a whole number from 1 on.")
    if handle.series is None:
        return refuse(404, "not_here", "This node keeps no figures of requests.")
    made, owner, document = _last.get(minutes, (0.0, None, {}))
    if owner is not handle or time.monotonic() - made > CHARTS_FRESH_S:
        # On a thread: a busy day takes a tenth of a second to put together, which no stream should feel.
        document = await sync_to_async(handle.series, thread_sensitive=False)(minutes)
        if document["start"] < document["began"]:
            rows = await sync_to_async(_usage)(document["start"], document["began"])
            with_usage(document, rows)
        _last[minutes] = (time.monotonic(), handle, document)
        while len(_last) > SPANS_MAX:
            del _last[next(iter(_last))]
    return JsonResponse(document)


def _whole(text: str, most: int) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return min(number, most) if number >= 1 else None


def _usage(start_s: int, until_s: int) -> list[UsageRow]:
    """Return the hours between; none where the database does not answer: charts do without."""
    from proxy.models import Usage

    first = datetime.fromtimestamp(start_s - start_s % HOUR_S, UTC)
    until = datetime.fromtimestamp(until_s, UTC)
    fields = ("hour", "model", "requests", "errors", "completion_tokens")
    try:
        return list(Usage.objects.filter(hour__gte=first, hour__lt=until).values_list(*fields))
    except DatabaseError:
        return []


def with_usage(document: dict[str, Any], rows: Iterable[UsageRow]) -> None:
    """Spread each hour's sums over its points before the process began; marks what was done."""
    step, start, points = document["step_s"], document["start"], document["points"]
    lines = {line["name"]: line for line in document["models"]}
    used = False
    for hour, model, count, errors, tokens in rows:
        hour_s = int(hour.timestamp())
        until_s = min(hour_s + HOUR_S, document["began"])
        known = [point for point in range(points) if hour_s <= start + point * step < until_s]
        share = max(1, math.ceil((until_s - hour_s) / step))
        line = lines.get(model)
        if line is None:
            line = lines[model] = _empty(model, points)
            document["models"].append(line)
        for point in known:
            used = True
            for into in (line, document["all"]):
                into["requests"][point] += count / share
                into["errors"][point] += errors / share
                into["tokens"][point] += tokens / share
    document["by_the_hour_before"] = document["began"] if used else None


def _empty(name: str, points: int) -> dict[str, Any]:
    sums: dict[str, Any] = {key: [0] * points for key in ("requests", "errors", "tokens")}
    return {
        "name": name,
        **sums,
        "ttfb_p50_ms": [None] * points,
        "ttfb_p95_ms": [None] * points,
    }
