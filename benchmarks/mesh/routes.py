"""How soon a change of one node is routable on every other, or no longer: a load, a drop from elsewhere.

Polled over HTTP at every node in turn, some 20 ms apart. Loading counts from the moment at which the host's
own API lists the model; a drop from the moment at which it is asked for on another node.
"""

import asyncio
import threading
from functools import partial

from benchmarks.mesh.ask import answer
from benchmarks.mesh.stage import Stage, lists, stage
from benchmarks.plan import Plan
from benchmarks.process import TargetFailed
from benchmarks.results import Results
from benchmarks.target import OURS, Ground
from nodes.runtime import control_client
from tests.e2e.mesh_processes import seconds_until
from tests.e2e.node_process import NodeProcess

KEYS = ("mesh_routable", "mesh_unroutable")
BYSTANDERS = 3
MODEL = "draft"
LIMIT_S = 15.0


def measure_routes(plan: Plan, results: Results, ground: Ground) -> None:
    """Load and drop a model so many times in a mesh of five."""
    with stage(ground) as made:
        host, others = _nodes(made)
        for number in range(plan.route_changes):
            results.add(KEYS[0], OURS, number, _load(host, others))
            _check({host.home.name: host, **others}, 200)
            results.add(KEYS[1], OURS, number, _drop(host, others))
            _check({host.home.name: host, **others}, 404)


def _nodes(made: Stage) -> tuple[NodeProcess, dict[str, NodeProcess]]:
    a = made.host("box-a", "--model", "tiny")
    token = made.nodes.token("box-a")
    host = made.host("box-b", "--model", "tiny", "--serve-all", join=token)
    others = {"box-a": a}
    for number in range(BYSTANDERS):
        name = f"box-{number}"
        others[name] = made.nodes.start(name, join=token)
    for node in (host, *others.values()):
        node.wait_for(lambda node=node: len(node.status()["peers"]) == BYSTANDERS + 1, "all peers")
    return host, others


def _load(host: NodeProcess, others: dict[str, NodeProcess]) -> float:
    """Return the seconds from the host's own listing to the last other node's."""
    asked = _told(host, "load")
    ways = {name: partial(lists, node, MODEL) for name, node in others.items()}
    found = seconds_until({"": partial(lists, host, MODEL), **ways}, LIMIT_S)
    asked.join()
    return max(max(found.values()) - found[""], 0.0)


def _drop(host: NodeProcess, others: dict[str, NodeProcess]) -> float:
    """Return the seconds from the order, given at another node, to the last node that knows."""
    nodes = {"": host, **others}
    asked = _told(others["box-0"], "drop")
    found = seconds_until(
        {name: (lambda node=node: not lists(node, MODEL)) for name, node in nodes.items()}, LIMIT_S
    )
    asked.join()
    return max(found.values())


def _told(node: NodeProcess, word: str) -> threading.Thread:
    """Give an operator's order; the answer comes when its outcome is known."""

    def tell() -> None:
        status, document = control_client.call(node.home, word, {"subject": MODEL}, node.port)
        assert status == 200, document

    thread = threading.Thread(target=tell)
    thread.start()
    return thread


def _check(nodes: dict[str, NodeProcess], wanted: int) -> None:
    """Ask every node: what is listed is answered, what is not is refused."""
    body = {"model": MODEL, "prompt": "mesh", "max_tokens": 4}
    for name, node in nodes.items():
        seen = asyncio.run(answer(node.port, "/v1/completions", body)).status
        if seen != wanted:
            raise TargetFailed(f"{name} answered {seen} for {MODEL}, not {wanted}")
