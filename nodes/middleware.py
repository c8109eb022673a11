"""What every answer of the console's port goes through: headers, Host, login, static files.

All of it is async-capable: one sync-only middleware would cost every request a thread.
"""

from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import quote

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from whitenoise.middleware import WhiteNoiseMiddleware

from nodes import access, login_guard
from nodes.runtime import handle as node_handle
from nodes.runtime.web_guard import host_allowed, may_act_from

Response = HttpResponseBase
GetResponse = Callable[[HttpRequest], Any]

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "object-src": "'none'",
}
CONTENT_SECURITY_POLICY = "; ".join(f"{name} {value}" for name, value in _POLICY.items())

TRUSTED_TYPES = "; require-trusted-types-for 'script'; trusted-types mesh-message"
"""On the console's own pages markup enters by one sink only; the admin's jQuery cannot live with it."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

LOGIN_PATHS = ("/login", "/admin/login/")

OPEN_PATHS = ("/health", "/operator/", "/login", "/admin/login/", "/admin/logout/")
"""What a node bound beyond loopback answers without a login."""


class SecurityHeaders:
    """Outermost: a strict policy on everything, error pages, admin and files included."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Response | Awaitable[Response]:
        if iscoroutinefunction(self.get_response):
            return self._later(request)
        return self._with_headers(request, self.get_response(request))

    async def _later(self, request: HttpRequest) -> Response:
        return self._with_headers(request, await self.get_response(request))

    @staticmethod
    def _with_headers(request: HttpRequest, response: Response) -> Response:
        policy = CONTENT_SECURITY_POLICY
        if not request.path.startswith("/admin/"):
            policy += TRUSTED_TYPES
        response.headers["Content-Security-Policy"] = policy
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response


class ConsoleGuard:
    """Refuse foreign Hosts and Origins, and strangers where a login is needed."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Response | Awaitable[Response]:
        if iscoroutinefunction(self.get_response):
            return self._later(request)
        refused = self._refusal(request) or self._login(request) or _too_many_logins(request)
        return refused or _note_login(request, self.get_response(request))

    async def _later(self, request: HttpRequest) -> Response:
        refused = self._refusal(request)
        if refused is None and self._needs_login(request):
            refused = await sync_to_async(self._login)(request)
        refused = refused or _too_many_logins(request)
        return refused or _note_login(request, cast(Response, await self.get_response(request)))

    @staticmethod
    def _refusal(request: HttpRequest) -> Response | None:
        handle = node_handle.current()
        names = handle.host_names if handle else ()
        origins = handle.cors_origins if handle else ()
        host = request.META.get("HTTP_HOST", "")
        if not host_allowed(host, names):
            return HttpResponse(
                "This console answers on localhost and on the names it was started with, not on "
                "the name in this request. Open it by its address, or add the name with --host.\n",
                status=421,
                content_type="text/plain; charset=utf-8",
            )
        safe = request.method in ("GET", "HEAD", "OPTIONS")
        if not safe and not may_act_from(request.headers.get("Origin"), host, origins):
            return refuse(403, "origin_refused", "Another web site may not act on this node.")
        if access.has_home_secret(request.headers.get("Authorization", "")):
            # Whoever sends the secret by hand is no browser being led astray: nothing to forge.
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        return None

    @staticmethod
    def _needs_login(request: HttpRequest) -> bool:
        handle = node_handle.current()
        return (
            handle is not None
            and not handle.loopback_only
            and not request.path.startswith(OPEN_PATHS)
        )

    def _login(self, request: HttpRequest) -> Response | None:
        if not self._needs_login(request) or access.may_view(request):
            return None
        if request.path.startswith(("/api/", "/metrics")):
            return refuse(401, "login_required", "This console is open to others: log in first.")
        return redirect(f"/login?next={quote(request.get_full_path())}")


def _is_login(request: HttpRequest) -> bool:
    return request.method == "POST" and request.path in LOGIN_PATHS


def _address(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR") or "")


def _too_many_logins(request: HttpRequest) -> Response | None:
    wait_s = login_guard.wait_s(_address(request)) if _is_login(request) else 0.0
    if not wait_s:
        return None
    text = f"Too many logins failed from here. Try again in {wait_s / 60:.0f} min.\n"
    refused = HttpResponse(text, status=429, content_type="text/plain; charset=utf-8")
    refused.headers["Retry-After"] = str(int(wait_s) + 1)
    return refused


def _note_login(request: HttpRequest, response: Response) -> Response:
    if _is_login(request):
        # A good login leads on; a bad one shows the form again.
        if response.status_code in (301, 302):
            login_guard.forget(_address(request))
        else:
            login_guard.note_failure(_address(request))
    return response


class AsyncWhiteNoise(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Whitenoise without its thread hop; files are small and answered whole."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response, settings)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def serve(self, static_file: Any, request: HttpRequest) -> Response | Awaitable[Response]:
        """Return the file, read at once: Django streams a file object by a thread hop per block."""
        streamed = super().serve(static_file, request)
        whole = HttpResponse(b"".join(streamed.streaming_content), status=streamed.status_code)
        del whole.headers["Content-Type"]
        for name, value in streamed.headers.items():
            whole.headers[name] = value
        streamed.close()
        return _as_awaitable(whole) if iscoroutinefunction(self.get_response) else whole


def refuse(status: int, code: str, message: str) -> JsonResponse:
    """Return a JSON error in OpenAI's form."""
    error = {"message": message, "type": "invalid_request_error", "code": code, "param": None}
    return JsonResponse({"error": error}, status=status)


async def _as_awaitable(response: Response) -> Response:
    return response
