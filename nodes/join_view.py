"""Inviting machines from the console: fresh tokens with their commands and a QR code, for operators.

The tokens themselves are the node's (`Operator.new_token`); here they become what a person copies. A
token is answered once, to the operator who asked for it, and never listed.
"""

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from nodes import access
from nodes.middleware import refuse
from nodes.runtime import handle as node_handle
from nodes.runtime.handle import NodeHandle
from nodes.views import json_object, needs_operator, no_node

ASK_MAX_BYTES = 4_096
"""Body of `POST /api/tokens`."""

HOURS = (0.1, 24.0 * 365)
"""Shortest and longest life that may be asked for."""

USES_MAX = 1_000
"""Most uses that may be asked for."""

LABEL_MAX_CHARS = 80

QR_MAX_CHARS = 2_000
"""A longer command gets no code: a phone's camera would not read it any more."""


@never_cache
@require_http_methods(["GET", "POST"])
async def tokens(request: HttpRequest) -> HttpResponse:
    """List the tokens that are good, or make one: ``{"hours", "uses", "clients_only", "label"}``."""
    if (handle := node_handle.current()) is None:
        return no_node()
    if not await access.is_operator_async(request):
        return needs_operator()
    if request.method == "GET":
        result = await handle.operator.tokens()
        answer = {"ok": result.ok, "text": result.text, "tokens": result.found.get("tokens", [])}
        return JsonResponse(answer, status=200 if result.ok else 409)
    asked = json_object(request, ASK_MAX_BYTES)
    wish = None if asked is None else _wish(asked)
    if wish is None:
        text = f"Give hours from {HOURS[0]} to {HOURS[1]:.0f}, and uses up to {USES_MAX} or null."
        return refuse(400, "bad_body", text)
    return await _make(handle, **wish)


def _wish(asked: dict[str, Any]) -> dict[str, Any] | None:
    hours, uses = asked.get("hours", 24), asked.get("uses")
    if isinstance(hours, bool) or not isinstance(hours, int | float):
        return None
    if not HOURS[0] <= hours <= HOURS[1]:
        return None
    if uses is not None and (
        isinstance(uses, bool) or not isinstance(uses, int) or not 1 <= uses <= USES_MAX
    ):
        return None
    return {
        "hours": float(hours),
        "uses": uses,
        "clients_only": asked.get("clients_only") is True,
        "label": str(asked.get("label") or "")[:LABEL_MAX_CHARS],
    }


async def _make(
    handle: NodeHandle, hours: float, uses: int | None, clients_only: bool, label: str
) -> HttpResponse:
    result = await handle.operator.new_token(hours, uses, clients_only, label)
    if not result.ok:
        return JsonResponse({"ok": False, "text": result.text}, status=409)
    token = str(result.found["token"])
    command = f"mesh-llm {'--client ' if clients_only else ''}--join {token}"
    answer = {
        "ok": True,
        "text": result.text,
        "id": result.found.get("id"),
        "expires_s": result.found.get("expires_s"),
        "token": token,
        "command": command,
        "qr": await sync_to_async(qr_image)(command),
    }
    return JsonResponse(answer)


def qr_image(text: str) -> str | None:
    """Return `text` as the data URI of a QR code in SVG, dark on white; None beyond QR_MAX_CHARS."""
    if len(text) > QR_MAX_CHARS:
        return None
    import segno

    code = segno.make(text, error="l", micro=False)
    return str(code.svg_data_uri(scale=3, border=3, dark="#000", light="#fff"))
