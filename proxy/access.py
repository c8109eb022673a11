"""Who may use the API: the Host and Origin checks, CORS answers and the key.

Decides before anything else is looked at, so that no web page uses the mesh by DNS rebinding. The
rules for hosts and origins are `nodes.runtime.web_guard`'s; this file turns them into answers.
Source: Fetch standard (CORS, preflight), Private Network Access draft.
"""

from nodes.runtime.web_guard import host_allowed, origin_allowed
from proxy.config import ApiConfig
from proxy.openai import Fault, FaultKind
from proxy.upstream import Header

ID_MAX = 128
"""Characters of a client's X-Request-Id that are kept."""
_HOSTS_REMEMBERED_MAX = 64
_PREFLIGHT_MAX_AGE_S = 600
_METHODS = b"GET, HEAD, POST, DELETE, OPTIONS"
_EXPOSED = b"x-request-id, x-mesh-node, retry-after"


class Access:
    """The checks of one configuration."""

    def __init__(self, config: ApiConfig) -> None:
        self._config = config
        self._good_hosts: set[bytes] = set()
        """Host headers that passed before: most clients send the same one for ever."""

    def check_host(self, hosts: list[bytes], http_version: str) -> None:
        """Raises Fault unless the request is for a host that is ours."""
        if not hosts and http_version == "1.0":
            return  # no browser speaks 1.0
        if len(hosts) != 1:
            raise Fault(FaultKind.BAD_REQUEST, "A request needs exactly one Host header.")
        host = hosts[0]
        if host in self._good_hosts:
            return
        if not host_allowed(host.decode("latin-1"), self._config.allowed_hosts):
            shown = host[:100].decode("ascii", "replace")
            text = (
                f"This API does not serve the host '{shown}'. Use localhost, or start the node "
                "with --host naming it."
            )
            raise Fault(FaultKind.FOREIGN_HOST, text)
        if len(self._good_hosts) < _HOSTS_REMEMBERED_MAX:
            self._good_hosts.add(host)

    def check_origin(self, origin: bytes | None, host: bytes) -> None:
        """Raises Fault when a page of a foreign origin asks."""
        if origin is None:
            return
        name = origin.decode("latin-1")
        if not origin_allowed(name, host.decode("latin-1"), self._config.cors_origins):
            text = (
                f"Pages of '{name[:100]}' may not use this API. Allow them with "
                "--cors-origin ORIGIN when the node is started."
            )
            raise Fault(FaultKind.FOREIGN_ORIGIN, text)

    def check_key(self, authorization: bytes | None, x_api_key: bytes | None) -> None:
        """Raises Fault unless no key is needed, or a good one was given."""
        check = self._config.check_key
        if check is None:
            return
        scheme, _, token = (authorization or b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else (x_api_key or b"").strip()
        if not given:
            text = "This API needs a key: send it as 'Authorization: Bearer KEY'."
            raise Fault(FaultKind.NO_KEY, text)
        if not check(given.decode("latin-1")):
            raise Fault(FaultKind.NO_KEY, "The API key is wrong.")


def cors_headers(origin: bytes | None) -> list[Header]:
    """Return the headers that let a page of an allowed origin read the answer."""
    if origin is None:
        return []
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    ]


def preflight_headers(wanted: bytes | None, private_network: bool) -> list[Header]:
    """Return what a preflight is told. `wanted`: the headers that the page asks to send."""
    allowed = wanted if wanted and _is_token_list(wanted) else b"authorization, content-type"
    headers = [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", allowed),
        (b"access-control-max-age", b"%d" % _PREFLIGHT_MAX_AGE_S),
    ]
    if private_network:
        headers.append((b"access-control-allow-private-network", b"true"))
    return headers


def _is_token_list(value: bytes) -> bool:
    plain = value.replace(b",", b"").replace(b" ", b"").replace(b"-", b"").replace(b"_", b"")
    return len(value) <= 1024 and plain.isalnum()


def clean_request_id(value: bytes | None) -> str | None:
    """Return a client's request id if it is short, visible ASCII without quotes; else None."""
    if not value or len(value) > ID_MAX:
        return None
    good = all(33 <= c <= 126 and c not in b"\"'<>\\&" for c in value)
    return value.decode("ascii") if good else None
