"""Why a model is served as it is, and what it would need."""

from nodes.mesh.election import elect
from nodes.mesh.ids import ModelName
from nodes.mesh.offers import MeshSnapshot
from nodes.mesh.reasons import (
    DECISIONS_MAX,
    DECISIONS_SHOWN_MAX,
    Reasons,
    why,
    why_by_table,
    would_need,
)
from nodes.mesh.routing import ModelState
from tests.nodes.mesh.offers_lab import offer, snapshot
from tests.nodes.mesh.routing_lab import host

BIG = ModelName("big")


def needs(seen: MeshSnapshot) -> str:
    return would_need(seen, elect(seen, BIG))


def test_cold_model_needs_more_memory_or_a_node_like_one_that_is_busy() -> None:
    small = offer("box-1", 16, serves={BIG: "waiting"}, disk={BIG: 40})
    assert needs(snapshot(small)) == "24.0 GB more memory"
    large = offer("box-2", 64, serves={"other": "ready"})
    assert needs(snapshot(small, large)) == "24.0 GB more memory, or one node like box-2"


def test_dropped_unknown_or_served_model_says_what_brings_it() -> None:
    served = offer("box-1", 64, serves={BIG: "ready"}, disk={BIG: 40})
    assert needs(snapshot(served)) == ""
    assert "mesh-llm load big" in needs(snapshot(served, dropped=[BIG]))
    assert "catalogue" in needs(snapshot(offer("box-1", 64)))


def test_document_names_each_candidate_with_its_reason() -> None:
    a = offer("box-1", 24, serves={BIG: "ready"}, disk={BIG: 18.7})
    b = offer("box-2", 16, serves={BIG: "waiting"}, disk={BIG: 18.7})
    seen = snapshot(a, b)
    reasons = Reasons()
    reasons.note(BIG, "solo", "it fits")
    reasons.note(ModelName("other"), "wait", "no")
    reasons.note(BIG, "solo", "again")
    told = why(reasons, seen, elect(seen, BIG))
    assert told["mode"] == "solo"
    assert told["term"] == 2
    assert [h["text"] for h in told["history"]] == ["again", "it fits"]
    assert [c["reason"] for c in told["candidates"]] == [
        "accepted box-1: needs 18.7 GB, offers 24.0 GB",
        "rejected box-2: needs 18.7 GB, offers 16.0 GB",
    ]


def test_ring_is_bounded() -> None:
    reasons = Reasons()
    for number in range(DECISIONS_MAX + 10):
        reasons.now_unix_s = float(number)
        reasons.note(BIG if number >= 100 else ModelName("old"), "solo", "x")
    assert len(reasons.about(ModelName("old"))) == DECISIONS_SHOWN_MAX
    assert reasons.about(BIG)[0].at_unix_s == DECISIONS_MAX + 9
    for number in range(DECISIONS_MAX):
        reasons.note(ModelName(f"m{number}"), "solo", "x")
    assert reasons.about(ModelName("old")) == ()


def test_client_tells_by_its_table_who_answers_and_claims_nothing_about_the_others() -> None:
    ready, loading = host(1, model=BIG), host(2, model=BIG, state=ModelState.LOADING)
    told = why_by_table(BIG, (loading, ready, host(3)))
    assert (told["mode"], told["hosts"], told["would_need"]) == ("solo", [ready.node_id], "")
    assert [(c["name"], c["accepted"]) for c in told["candidates"]] == [
        ("box-1", True),
        ("box-2", False),
    ]
    nobody = why_by_table(BIG, (loading,))
    assert (nobody["mode"], nobody["hosts"]) == ("nobody", [])
    assert "full member" in nobody["would_need"]
