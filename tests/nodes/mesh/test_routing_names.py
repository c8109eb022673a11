"""Which model a request's name means, and what is said when none answers."""

import pytest

from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.model_facts import Capability
from nodes.mesh.routing import (
    Candidates,
    ModelState,
    Refusal,
    RefusalKind,
    RequestNeeds,
    RoutingTable,
    Upstream,
    candidates,
    match_name,
)

NODE = NodeId("ab" * 32)


def upstream(name: str, state: ModelState = ModelState.READY, **more: object) -> Upstream:
    facts: dict = {"host": "127.0.0.1", "port": 1, "slots": 4, "context": 4096}
    facts |= {"capabilities": frozenset({Capability.CHAT})} | more
    return Upstream(NODE, ModelName(name), state, **facts)


def ask(name: str | None, *upstreams: Upstream, **needs: object) -> Candidates | Refusal:
    return candidates(RoutingTable(NODE, upstreams), RequestNeeds(name, **needs))  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", ["Qwen2.5-3B", "qwen2.5-3b", "qwen2.5", "Qwen2.5-3"])
def test_name_is_found_exactly_without_case_or_by_prefix(asked: str) -> None:
    found = ask(asked, upstream("Qwen2.5-3B"), upstream("GLM-4.7"))
    assert isinstance(found, Candidates)
    assert found.model == "Qwen2.5-3B"


def test_exact_name_wins_over_a_longer_one_with_the_same_start() -> None:
    assert match_name("a", ["a", "a-big", "A"]) == ("a",)
    assert match_name("A-BIG", ["a", "a-big"]) == ("a-big",)


def test_ambiguous_prefix_is_refused_with_the_choices() -> None:
    found = ask("qwen", upstream("Qwen-3B"), upstream("Qwen-32B"))
    assert isinstance(found, Refusal)
    assert found.kind is RefusalKind.AMBIGUOUS_MODEL
    assert found.served == ("Qwen-32B", "Qwen-3B")


def test_unknown_name_is_refused_with_what_is_served() -> None:
    found = ask("gpt-4o", upstream("tiny"))
    assert isinstance(found, Refusal)
    assert (found.kind, found.served) == (RefusalKind.UNKNOWN_MODEL, ("tiny",))


def test_loading_model_is_told_apart_from_an_unknown_one() -> None:
    found = ask("tiny", upstream("tiny", ModelState.LOADING, progress=0.4, phase="loading"))
    assert isinstance(found, Refusal)
    assert (found.kind, found.progress) == (RefusalKind.LOADING, 0.4)


@pytest.mark.parametrize("asked", [None, "auto", "AUTO", "tiny"])
def test_nothing_served_is_said_as_such(asked: str | None) -> None:
    found = ask(asked, upstream("tiny", ModelState.DRAINING))
    assert isinstance(found, Refusal)
    assert found.kind is RefusalKind.NOTHING_SERVED


def test_auto_prefers_a_model_that_can_do_what_the_request_needs() -> None:
    tools = frozenset({Capability.CHAT, Capability.TOOLS})
    small = upstream("small", capabilities=tools, context=4096)
    found = ask("auto", upstream("big", context=65536), small, capabilities=tools)
    assert isinstance(found, Candidates)
    assert found.model == "small"


def test_auto_takes_the_largest_context_when_nothing_special_is_needed() -> None:
    found = ask(None, upstream("small"), upstream("big", context=65536))
    assert isinstance(found, Candidates)
    assert found.model == "big"
