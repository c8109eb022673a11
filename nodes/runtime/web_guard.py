"""Which Host and Origin headers are ours: what keeps a web page from using the mesh by DNS rebinding.

Pure. Source: Fetch standard, "Origin header"; RFC 9110 section 7.2 (Host). Used on both ports.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit


def split_host(value: str) -> str:
    """Return the host of a Host header value, without port and brackets, lower case; empty if malformed."""
    text = value.strip().casefold()
    try:
        host = urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""
    malformed = any(c in text for c in "/@?#\\ \t") or not host
    return "" if malformed else host.rstrip(".")


def is_loopback(host: str) -> bool:
    """Return whether `host` names this machine's loopback: ``localhost``, 127.0.0.0/8 or ::1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_allowed(host_header: str, names: Iterable[str]) -> bool:
    """Return whether a request for this Host may be served: loopback, or one of the configured `names`.

    A name of ``*`` allows every host: what binding beyond loopback with a key amounts to.
    """
    host = split_host(host_header)
    if not host:
        return False
    allowed = set(names)
    return is_loopback(host) or "*" in allowed or host in allowed


def origin_allowed(origin: str | None, host_header: str, extra: Iterable[str]) -> bool:
    """Return whether a page of `origin` may read answers or open websockets.

    Absent is allowed (not a browser); so are loopback origins (any port), the same host and port
    as the request itself, and the `extra` origins (exact, or ``*``). ``null`` never is.
    """
    if origin is None:
        return True
    wide = set(extra)
    if "*" in wide or origin in wide:
        return True
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    return is_loopback(parts.hostname) or parts.netloc.casefold() == host_header.strip().casefold()


def may_act_from(origin: str | None, host_header: str, extra: Iterable[str]) -> bool:
    """Return whether a page of `origin` may change anything by the console.

    Stricter than reading: only the console's own page and the `extra` origins named exactly. Cookies know
    no ports, so a page that another program serves on this machine would come with the operator's.
    """
    if origin is None or origin in set(extra) - {"*"}:
        return True
    parts = urlsplit(origin)
    ours = parts.netloc.casefold() == host_header.strip().casefold()
    return ours and parts.scheme in ("http", "https")
