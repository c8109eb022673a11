"""How a command of this home talks to its running node: HTTP on loopback, proven by the home's secret."""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nodes.runtime.home import home_of_port, read_running, read_secret

TIMEOUT_S = 40.0
"""A `load` answers sooner, its download done or not; a drop waits for no stream."""


class NodeNotReached(Exception):
    """No node answers; the text says which was asked and what to do."""


def call(home: Path, word: str, body: dict[str, Any] | None, port: int | None = None) -> Any:
    """Return (status, document) of `/mesh/<word>`; GET without a body, POST with one.

    `port` None: the node that runs in this home.

    Raises:
        NodeNotReached: none runs, it does not answer, or it is another home's.
    """
    secret = read_secret(home if port is None else home_of_port(home, port))
    running = read_running(home)
    if port is None and running is None:
        raise NodeNotReached(
            f"No node runs in {home}. Start one with `mesh-llm`, or name its API with --port N."
        )
    host, found_port = "127.0.0.1", port
    if port is None and running is not None:
        parts = urlsplit(str(running["api_url"]))
        host, found_port = parts.hostname or host, parts.port
    connection = http.client.HTTPConnection(host, found_port, timeout=TIMEOUT_S)
    headers = {"Authorization": f"Bearer {secret or ''}", "Content-Type": "application/json"}
    try:
        payload = None if body is None else json.dumps(body)
        method = "GET" if body is None else "POST"
        connection.request(method, f"/mesh/{word}", payload, headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NodeNotReached(
            f"No node answers on {host}:{found_port} ({error}). It may have been killed, or be "
            "starting: look at its terminal, or start one with `mesh-llm`."
        ) from error
    finally:
        connection.close()
    if answer.status == 403:
        raise NodeNotReached(
            f"The node on port {found_port} is not of the home {home}: set MESH_LLM_HOME to its folder."
        )
    return answer.status, document
