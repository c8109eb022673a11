"""Hosts for tests of routing: one model on several nodes, and what is known of each."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nodes.mesh.engine_load import EngineLoad
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.model_facts import Capability
from nodes.mesh.routing import (
    Candidates,
    HostKey,
    ModelState,
    RequestNeeds,
    RoutingTable,
    Upstream,
    candidates,
)
from nodes.mesh.routing_live import Figures
from nodes.mesh.routing_order import Place, order

MODEL = ModelName("tiny")
ME = NodeId("ab" * 32)


def host(number: int, **changes: Any) -> Upstream:
    """The model on node `number`, reached over its link."""
    made = Upstream(
        node_id=NodeId(f"{number:064x}"),
        model=MODEL,
        state=ModelState.READY,
        host=None,
        port=None,
        slots=4,
        context=4096,
        capabilities=frozenset({Capability.CHAT}),
        name=f"box-{number}",
        rtt_ms=0.5,
    )
    return replace(made, **changes)


def found(*hosts: Upstream, **needs: Any) -> Candidates:
    answer = candidates(RoutingTable(ME, hosts), RequestNeeds(MODEL, **needs))
    assert isinstance(answer, Candidates)
    return answer


def figures(busy: float = 0, **changes: Any) -> Figures:
    facts: dict = {"slots": 4, "failures": 0.0, "ttfb_ms": None, "rtt_ms": 0.5} | changes
    return Figures(busy, **facts)


def told(number: int, in_flight: int, **changes: Any) -> EngineLoad:
    """What a host with 4 slots says of itself."""
    made = EngineLoad(number, in_flight, max(0, 4 - in_flight), None, 0.0, 0.0)
    return replace(made, **changes)


def ordered(
    known: Mapping[Upstream, Figures],
    *,
    broken: frozenset[HostKey] = frozenset(),
    sticky: Upstream | None = None,
    number: int = 2**64 - 1,
    **needs: Any,
) -> tuple[Place, ...]:
    """Order the hosts of `known` by its figures."""
    return order(
        found(*known, **needs),
        lambda upstream: known[upstream],
        broken,
        sticky.node_id if sticky else None,
        number,
    )


def firsts(known: Mapping[Upstream, Figures], seed: int, count: int, **more: Any) -> Counter[str]:
    """Return how often each host comes first over `count` random numbers."""
    dice = random.Random(seed)
    chosen = (ordered(known, number=dice.getrandbits(64), **more)[0] for _ in range(count))
    return Counter(place.upstream.name for place in chosen)
