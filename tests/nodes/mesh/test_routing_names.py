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
    Standing,
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


@pytest.mark.parametrize(
    "asked",
    [
        "Qwen/Qwen2.5-3B-GGUF/Qwen2.5-3B.gguf",
        "Qwen2.5-3B.GGUF",
        "/models/qwen2.5-3b-00001-of-00003.gguf",
        "Qwen2.5-3B-00001-of-00003",
    ],
)
def test_path_or_file_name_means_the_models_stem(asked: str) -> None:
    found = ask(asked, upstream("Qwen2.5-3B"), upstream("GLM-4.7"))
    assert isinstance(found, Candidates)
    assert found.model == "Qwen2.5-3B"


@pytest.mark.parametrize("asked", ["org/", ".gguf", "/", "-00001-of-00003.gguf"])
def test_name_with_an_empty_stem_means_nothing(asked: str) -> None:
    found = ask(asked, upstream("tiny"))
    assert isinstance(found, Refusal)
    assert found.kind is RefusalKind.UNKNOWN_MODEL


def test_name_that_ends_like_a_shard_is_found_as_it_is() -> None:
    found = ask("odd-00001-of-00002", upstream("odd-00001-of-00002"), upstream("odd"))
    assert isinstance(found, Candidates)
    assert found.model == "odd-00001-of-00002"


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


def test_auto_takes_a_model_whose_context_holds_the_prompt_over_one_with_more_slots() -> None:
    roomy = upstream("roomy", context=16_384, slots=1)
    found = ask("auto", upstream("small", slots=64), roomy, context=9_000)
    assert isinstance(found, Candidates)
    assert found.model == "roomy"


def test_auto_takes_the_longest_context_when_the_prompt_may_fit_nowhere() -> None:
    found = ask("auto", upstream("small"), upstream("big", context=8_192), context=50_000)
    assert isinstance(found, Candidates)
    assert (found.model, found.standings) == ("big", (Standing.DOUBTFUL,))


def test_auto_takes_what_meets_the_most_needs_when_nothing_meets_all() -> None:
    sees = frozenset({Capability.CHAT, Capability.VISION})
    both = sees | {Capability.TOOLS}
    blind = upstream("blind", context=65_536)
    found = ask("auto", blind, upstream("seeing", capabilities=sees), capabilities=both)
    assert isinstance(found, Candidates)
    assert found.model == "seeing"


def test_auto_leaves_a_model_that_only_embeds_to_requests_for_embeddings() -> None:
    embeds = frozenset({Capability.EMBEDDINGS})
    both = (upstream("embedder", capabilities=embeds, context=32_768), upstream("talker"))
    chat = ask("auto", *both)
    vectors = ask("auto", *both, capabilities=embeds)
    assert isinstance(chat, Candidates) and isinstance(vectors, Candidates)
    assert (chat.model, vectors.model) == ("talker", "embedder")


def test_auto_leaves_a_model_whose_only_host_is_suspect_while_another_can_answer() -> None:
    found = ask("auto", upstream("big", context=65_536, rank_last=True), upstream("small"))
    assert isinstance(found, Candidates)
    assert found.model == "small"


def test_hosts_of_a_named_model_come_by_standing_and_none_is_left_out() -> None:
    suspect = upstream("m", rank_last=True, context=65_536)
    short = upstream("m", context=1_024)
    blind = upstream("m", capabilities=frozenset())
    able = upstream("m", context=8_192)
    found = ask("m", suspect, short, blind, able, context=2_000, capabilities={Capability.CHAT})
    assert isinstance(found, Candidates)
    assert found.upstreams == (able, short, blind, suspect)
    assert found.standings == (
        Standing.ABLE,
        Standing.DOUBTFUL,
        Standing.DOUBTFUL,
        Standing.LAST,
    )


def test_only_ready_hosts_are_candidates() -> None:
    states = [state for state in ModelState if state is not ModelState.READY]
    found = ask("m", *(upstream("m", state) for state in states), upstream("m"))
    assert isinstance(found, Candidates)
    assert [u.state for u in found.upstreams] == [ModelState.READY]
