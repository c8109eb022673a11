"""Who may see the console and who may act: decided here for pages, the small API and websockets.

- On loopback viewing is open; bound beyond it, viewing needs a login too.
- Actions and tokens always need an operator: the session opened by a one-time link, a Django staff
  login, or the home's secret (`Authorization: Bearer ...`, the command line).
- The operator's session is a signed cookie, so it holds while the database is locked or gone.

It does not know what is being viewed or done.
"""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.core import signing
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse

from nodes.runtime import handle as node_handle

OPERATOR_SESSION_S = 7 * 24 * 3600
"""How long an operator's session lasts."""

OPERATOR_LINK_LIFETIME_S = 12 * 3600
"""How long an unused one-time link is good."""

OPERATOR_LINKS_MAX = 16
"""Unused links held; one more pushes out the oldest."""

_SALT = "mesh-llm.operator"

_links: "OrderedDict[str, float]" = OrderedDict()
"""Unused codes and their expiry on the monotonic clock. In memory: a restart voids them."""


def new_operator_link(base_url: str) -> str:
    """Return a link that opens an operator's session once, within OPERATOR_LINK_LIFETIME_S.

    `base_url` is the console's, such as ``http://127.0.0.1:3131``.
    """
    code = secrets.token_urlsafe(24)
    while len(_links) >= OPERATOR_LINKS_MAX:
        _links.popitem(last=False)
    _links[code] = time.monotonic() + OPERATOR_LINK_LIFETIME_S
    return f"{base_url.rstrip('/')}/operator/{code}"


def redeem_operator_code(code: str) -> bool:
    """Return whether `code` opens a session; a good one is used up by asking."""
    expiry = _links.pop(code, None)
    return expiry is not None and expiry > time.monotonic()


def open_operator_session(response: HttpResponse, secure: bool) -> None:
    """Put the operator's session into `response`: signed, HttpOnly, SameSite=Strict."""
    response.set_cookie(
        _cookie_name(),
        signing.dumps("operator", key=key_secret(), salt=_SALT + _node_id()),
        max_age=OPERATOR_SESSION_S,
        httponly=True,
        samesite="Strict",
        secure=secure,
    )


def close_operator_session(response: HttpResponse) -> None:
    """Take the operator's session out of the browser."""
    response.delete_cookie(_cookie_name(), samesite="Strict")


def has_home_secret(authorization: str) -> bool:
    """Return whether an Authorization header proves that the sender can read the node's home."""
    handle = node_handle.current()
    scheme, _, given = authorization.partition(" ")
    if handle is None or scheme.casefold() != "bearer" or not handle.home_secret:
        return False
    return hmac.compare_digest(given.strip().encode(), handle.home_secret.encode())


def has_operator_cookie(cookies: Mapping[str, str]) -> bool:
    """Return whether these cookies hold a good operator's session of this node."""
    value = cookies.get(_cookie_name(), "")
    try:
        said = signing.loads(
            value, key=key_secret(), salt=_SALT + _node_id(), max_age=OPERATOR_SESSION_S
        )
    except signing.BadSignature:
        return False
    return bool(said == "operator")


def is_operator(request: HttpRequest) -> bool:
    """Return whether this request may act and see tokens.

    Reads the database only when a login cookie is there and nothing else proves it.
    """
    if has_home_secret(request.headers.get("Authorization", "")):
        return True
    return has_operator_cookie(request.COOKIES) or bool(_account(request, "is_staff"))


async def is_operator_async(request: HttpRequest) -> bool:
    """Return what `is_operator` says; takes a thread only where a login has to be looked up."""
    if has_home_secret(request.headers.get("Authorization", "")):
        return True
    if has_operator_cookie(request.COOKIES):
        return True
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return False
    return await sync_to_async(is_operator)(request)


def may_view(request: HttpRequest) -> bool:
    """Return whether this request may see the console's pages and state."""
    handle = node_handle.current()
    if handle is None or handle.loopback_only:
        return True
    return is_operator(request) or bool(_account(request, "is_active"))


def websocket_may_view(cookies: Mapping[str, str], authorization: str) -> bool:
    """Return what `may_view` says, for a websocket's handshake. May read the database: not on the loop."""
    request = HttpRequest()
    request.META["HTTP_AUTHORIZATION"] = authorization
    request.COOKIES = dict(cookies)
    _attach_login(request)
    return may_view(request)


def safe_next(target: str) -> str:
    """Return `target` if it is a path of this console, else ``/``: a login never leads elsewhere."""
    parts = urlsplit(target)
    outside = parts.scheme or parts.netloc or not target.startswith("/")
    return "/" if outside or target.startswith(("//", "/\\")) else target


def _account(request: HttpRequest, right: str) -> Any:
    """Return the named right of the logged-in account; False without one or with a dead database."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES or not hasattr(request, "session"):
        return False
    try:
        user = getattr(request, "user", None) or get_user(request)
        return user.is_authenticated and user.is_active and getattr(user, right)
    except DatabaseError:
        return False


def _attach_login(request: HttpRequest) -> None:
    from django.contrib.sessions.backends.db import SessionStore

    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if key:
        request.session = SessionStore(key)


def _node_id() -> str:
    handle = node_handle.current()
    return handle.node_id if handle else ""


def key_secret() -> str:
    """Return what sessions are signed and keys hashed with: the home's, good after a restart."""
    handle = node_handle.current()
    return handle.home_secret if handle and handle.home_secret else str(settings.SECRET_KEY)


def _cookie_name() -> str:
    """Return the cookie's name, with the node in it: nodes of one machine share the cookie jar."""
    return f"mesh_operator_{_node_id()[:8]}"
