"""What the node's parts are told at the start, made from the flags: pure functions of `Options`."""

import hmac
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from meshsite.options import Options
from meshsite.version import VERSION
from nodes.mesh.ids import NodeId
from nodes.mesh.placement import ServingOptions
from nodes.mesh.view import Me
from proxy.api_keys import key_ring
from proxy.config import ApiConfig


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the node is reached."""

    api_port: int
    console_port: int | None
    api_url: str
    console_url: str | None
    quic_port: int | None = None


def me(options: Options, node_id: NodeId, endpoints: Endpoints) -> Me:
    """Return what never changes of the node while it runs."""
    return Me(
        node_id=node_id,
        name=options.name or socket.gethostname(),
        version=VERSION,
        mesh_id="",
        started_at=int(time.time()),
        is_client=options.client,
        api_port=endpoints.api_port,
        console_port=endpoints.console_port,
        quic_port=endpoints.quic_port,
        api_url=endpoints.api_url,
        console_url=endpoints.console_url,
        needs_key=options.api_key is not None,
    )


def serving_options(options: Options) -> ServingOptions:
    """Return what the operator fixed about serving."""
    return ServingOptions(
        serve_all=options.serve_all,
        context=options.context,
        parallel=options.parallel,
        draft_max=options.draft_max,
        rpc_self=options.rpc_self,
        force_split=options.split,
        device=options.device,
        tensor_split=options.tensor_split,
        stop_grace_s=options.stop_grace_s,
    )


def api_config(options: Options, secret: str) -> ApiConfig:
    """Return who may reach the API, and how; `secret` is the home's."""
    return ApiConfig(
        allowed_hosts=frozenset(host_names(options)),
        cors_origins=frozenset(options.cors_origins),
        check_key=_key_check(options.api_key, secret),
    )


def host_names(options: Options) -> tuple[str, ...]:
    """Return the Host names served besides loopback: every one once the operator opened the node.

    Bound beyond loopback, a key (or the operator's explicit word) stands in for the Host check: the
    machine's names on its networks cannot all be known.
    """
    return options.allow_hosts if options.loopback_only else ("*",)


def _key_check(key: str | None, secret: str) -> Callable[[str], bool] | None:
    """Return the check of API keys; None: no key is needed.

    Good are the operator's own key, one made in the admin, and the home's secret: the console's chat
    asks the API in process, in the name of whoever may see the console.
    """
    if key is None:
        return None
    good = (key.encode(), secret.encode())

    def check(given: str) -> bool:
        shown = given.encode("utf-8", "replace")
        # Every comparison is made, so that the time tells nothing.
        known = sum(hmac.compare_digest(shown, one) for one in good)
        return bool(known) or key_ring.allows(given, secret)

    return check
