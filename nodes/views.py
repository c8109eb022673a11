"""The console's page and its small HTTP API. Chat is in `chat_view`."""

import json
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST, require_safe

from nodes import access
from nodes.markup import RENDER_MAX_CHARS, render_markdown
from nodes.middleware import refuse
from nodes.runtime import handle as node_handle
from nodes.runtime.operate import operate

LOG_LINES_MAX = 500
"""Log lines in one answer of `/api/logs/<model>`."""

ACTION_MAX_BYTES = 4_096
"""Body of `POST /api/actions`."""

RENDER_TEXTS_MAX = 200
"""Messages rendered by one `POST /api/render`."""

_NO_NODE = (
    "The node is not running in this process, so there is nothing to show. Start it with mesh-llm."
)


def no_node() -> JsonResponse:
    """Return the answer of every address that needs a running node and has none."""
    return refuse(503, "node_not_running", _NO_NODE)


@never_cache
@ensure_csrf_cookie
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Return the console: one page; everything on it comes by the websocket."""
    handle = node_handle.current()
    context = {
        "operator": access.is_operator(request),
        "node_id": handle.node_id if handle else "",
        "can_join": handle is not None and handle.can_join,
    }
    return render(request, "console/page.html", context)


@never_cache
@require_GET
def operator(request: HttpRequest, code: str) -> HttpResponse:
    """Open an operator's session with a one-time link, then lead on to the console.

    A page and not a redirect: a SameSite=Strict cookie would not come along on a redirect that
    began on another site (a chat window, a mail).
    """
    good = access.redeem_operator_code(code)
    response = render(request, "console/operator.html", {"good": good}, status=200 if good else 410)
    if good:
        access.open_operator_session(response, request.is_secure())
    return response


@require_POST
def leave(request: HttpRequest) -> HttpResponse:
    """End the operator's session, and the login if there is one."""
    logout(request)
    response = redirect("/")
    access.close_operator_session(response)
    return response


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Lead browsers that ask for the old name to the drawing."""
    return redirect(static("console/favicon.svg"))


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Return 200 while the node runs; says nothing else, so it needs no login."""
    running = node_handle.current() is not None
    return JsonResponse({"status": "ok" if running else "stopped"}, status=200 if running else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the Prometheus text."""
    handle = node_handle.current()
    if handle is None or handle.metrics is None:
        return no_node()
    return HttpResponse(handle.metrics(), content_type="text/plain; version=0.0.4; charset=utf-8")


@never_cache
async def status(request: HttpRequest) -> HttpResponse:
    """Return the status document; an operator's has the invite token."""
    if (handle := node_handle.current()) is None:
        return no_node()
    return JsonResponse(handle.status(await access.is_operator_async(request)))


@never_cache
async def events(request: HttpRequest) -> HttpResponse:
    """Return the history that the node holds in memory, oldest first."""
    if (handle := node_handle.current()) is None:
        return no_node()
    snapshot = handle.feed.snapshot()
    return JsonResponse({"seq": snapshot.seq, "events": list(snapshot.history)})


@never_cache
async def logs(request: HttpRequest, model: str) -> HttpResponse:
    """Return log lines of one engine after number ``?after=N``, at most LOG_LINES_MAX."""
    if (handle := node_handle.current()) is None:
        return no_node()
    if model not in handle.logs.models():
        known = ", ".join(handle.logs.models()) or "none yet"
        return refuse(404, "log_not_found", f"There is no log of {model}. There are: {known}.")
    try:
        after = max(0, int(request.GET.get("after", "0")))
    except ValueError:
        return refuse(400, "bad_number", "after must be a whole number.")
    first, lines = handle.logs.tail(model, after, LOG_LINES_MAX)
    return JsonResponse({"model": model, "first": first, "lines": lines})


@never_cache
async def token(request: HttpRequest) -> HttpResponse:
    """Return the invite token, to an operator."""
    if (handle := node_handle.current()) is None:
        return no_node()
    if not await access.is_operator_async(request):
        return needs_operator()
    return JsonResponse({"token": handle.invite_token()})


@require_POST
async def operator_link(request: HttpRequest) -> HttpResponse:
    """Return a fresh one-time link, to an operator (the command line asks with the home's secret)."""
    if not await access.is_operator_async(request):
        return needs_operator()
    base = f"{request.scheme}://{request.get_host()}"
    return JsonResponse({"link": access.new_operator_link(base)})


@require_POST
async def actions(request: HttpRequest) -> HttpResponse:
    """Carry out ``{"action", "target"}`` and return what became of it: ``{"ok", "outcome", "text"}``.

    The outcome is a word of `handle.Outcome`, the text one sentence for people. The target is a model's
    name, a node's id or a token's id; ``model`` is an older word for it.
    """
    if (handle := node_handle.current()) is None:
        return no_node()
    if not await access.is_operator_async(request):
        return needs_operator()
    asked = json_object(request, ACTION_MAX_BYTES)
    if asked is None:
        return refuse(
            400, "bad_body", 'Send a JSON object such as {"action": "drop", "target": "x"}.'
        )
    target = asked.get("target", asked.get("model", ""))
    result = await operate(handle, str(asked.get("action", "")), str(target))
    told = {"ok": result.ok, "outcome": result.outcome, "text": result.text}
    return JsonResponse(told, status=200 if result.ok else 409)


@never_cache
async def servable(request: HttpRequest) -> HttpResponse:
    """Return what can be named to be served here, to an operator: files on disk, then the catalogue."""
    if (handle := node_handle.current()) is None:
        return no_node()
    if not await access.is_operator_async(request):
        return needs_operator()
    return JsonResponse((await handle.operator.servable()).found)


@never_cache
async def why(request: HttpRequest) -> HttpResponse:
    """Return why the model ``?model=`` is served as it is, in sentences."""
    if (handle := node_handle.current()) is None:
        return no_node()
    if handle.why is None:
        return refuse(404, "not_here", "This node keeps no reasons of its decisions.")
    return JsonResponse(handle.why(request.GET.get("model", "")))


@require_POST
async def render_text(request: HttpRequest) -> HttpResponse:
    """Return ``{"html": [..]}`` for ``{"texts": [..]}``: markdown of kept conversations, made safe."""
    asked = json_object(request, 2 * RENDER_MAX_CHARS)
    texts = asked.get("texts") if asked else None
    if not isinstance(texts, list) or len(texts) > RENDER_TEXTS_MAX:
        return refuse(400, "bad_body", f"Send a list of at most {RENDER_TEXTS_MAX} texts.")
    html = await sync_to_async(lambda: [render_markdown(str(t)) for t in texts])()
    return JsonResponse({"html": html})


def needs_operator() -> JsonResponse:
    """Return the refusal of everything that only an operator may do."""
    return refuse(
        403,
        "operator_required",
        "Only an operator may do this: open the operator link that the node printed at its start, "
        "or log in.",
    )


def json_object(request: HttpRequest, max_bytes: int) -> dict[str, Any] | None:
    """Return the request's JSON object, or None for anything else and beyond `max_bytes`."""
    if int(request.headers.get("Content-Length") or 0) > max_bytes:
        return None
    try:
        parsed = json.loads(request.body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _error_page(request: HttpRequest, code: int, title: str, text: str) -> HttpResponse:
    context = {"code": code, "title": title, "text": text}
    return render(request, "console/error.html", context, status=code)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the page for a request that makes no sense."""
    return _error_page(request, 400, "That request makes no sense", "Go back and try again.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Return the page for a request that is not allowed."""
    return _error_page(request, 403, "Not allowed", "Open the operator link, or log in, first.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the page for an address that is not there."""
    if request.path.startswith("/v1"):
        return refuse(404, "wrong_port", "The API is on the API port, not on the console's.")
    return _error_page(request, 404, "Nothing is here", "The console is one page: the start page.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Return the page for a fault of ours or of the database."""
    text = "The node goes on serving. Its log says what happened; the database may be out of reach."
    return _error_page(request, 500, "This page failed", text)
