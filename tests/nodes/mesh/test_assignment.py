"""What a node without a model of its own serves, and who takes over what lost its last host."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.mesh.assignment import least_served, matching, standby_text, takers, takes
from nodes.mesh.causes import Cause
from nodes.mesh.ids import ModelName
from nodes.mesh.offers import MeshSnapshot, Offer
from tests.nodes.mesh.offers_lab import offer, snapshot

GLM = ModelName("GLM-4.7-Flash-Q4_K_M")
SMALL = ModelName("Qwen2.5-3B")


def seeder(*wishes: str) -> Offer:
    return offer(
        "seeder", serves={SMALL: "ready"}, disk={SMALL: 3}, wishes=wishes or ("GLM-4.7-Flash",)
    )


def test_joiner_takes_the_wish_that_is_on_its_disk_with_the_pinned_line() -> None:
    joiner = offer("joiner", 24, disk={GLM: 18, SMALL: 3})
    (found,) = matching(snapshot(joiner, seeder())).values()
    assert found.model == GLM
    assert found.text == f"Assigned to serve {GLM} (needed by mesh, already on disk)"
    assert (found.cause, found.download) == (Cause.NEEDED, False)


def test_wish_that_is_served_loading_or_about_to_be_is_nobodys_any_more() -> None:
    joiner = offer("joiner", 24, disk={GLM: 18})
    for state in ("ready", "loading", "waiting"):
        other = offer("other", 24, serves={GLM: state}, disk={GLM: 18})
        assert matching(snapshot(joiner, seeder(), other)) == {}


def test_model_that_its_own_node_cannot_hold_is_taken_by_one_that_can() -> None:
    small = offer("small", 8, serves={GLM: "waiting"}, disk={GLM: 18})
    joiner = offer("joiner", 24, disk={GLM: 18})
    assert matching(snapshot(joiner, small))[joiner.node_id].model == GLM


def test_what_does_not_fit_is_not_taken() -> None:
    joiner = offer("joiner", 12, disk={GLM: 18})
    found = snapshot(joiner, seeder())
    assert matching(found) == {}
    assert standby_text(found) == f"Standing by: {GLM} needs 18.0 GB, this node offers 12.0 GB."


def test_wish_not_on_disk_is_downloaded_where_it_fits() -> None:
    joiner = offer("joiner", 24)
    found = matching(snapshot(joiner, seeder(), catalogue={"GLM-4.7-Flash": 16}))[joiner.node_id]
    assert (found.model, found.download) == ("GLM-4.7-Flash", True)
    assert "to be downloaded" in found.text
    assert matching(snapshot(joiner, seeder(), catalogue={"GLM-4.7-Flash": 23})) == {}
    assert matching(snapshot(joiner, seeder())) == {}


def test_disk_goes_before_download() -> None:
    has, has_not = offer("has", 24, disk={GLM: 18}), offer("has-not", 24)
    found = matching(snapshot(has, has_not, seeder(), catalogue={"GLM-4.7-Flash": 16, "Other": 1}))
    assert list(found) == [has.node_id]


def test_two_joiners_that_see_each_other_take_different_models() -> None:
    joiners = [offer(f"j{i}", 24, disk={"A": 8, "B": 8, "C": 8}) for i in range(3)]
    found = matching(snapshot(*joiners, seeder("A", "B", "C")))
    assert {a.model for a in found.values()} == {"A", "B", "C"}


def test_joiners_that_do_not_see_each_other_spread_by_their_ids() -> None:
    taken = set()
    for i in range(20):
        joiner = offer(f"j{i}", 24, disk={"A": 8, "B": 8, "C": 8})
        taken.add(matching(snapshot(joiner, seeder("A", "B", "C")))[joiner.node_id].model)
    assert taken == {"A", "B", "C"}


def test_scarce_model_goes_to_the_only_node_that_has_it() -> None:
    rich, poor = offer("rich", 24, disk={"A": 8, "B": 8}), offer("poor", 24, disk={"A": 8})
    found = matching(snapshot(rich, poor, seeder("A", "B")))
    assert {found[rich.node_id].model, found[poor.node_id].model} == {"A", "B"}
    assert found[rich.node_id].model == "B"


def test_node_with_a_model_of_its_own_is_never_assigned_another() -> None:
    busy = offer("busy", 64, serves={SMALL: "waiting"}, disk={GLM: 18, SMALL: 100})
    assert matching(snapshot(busy, seeder())) == {}


def test_dropped_wish_is_cancelled_also_under_its_short_name() -> None:
    joiner = offer("joiner", 24, disk={GLM: 18})
    assert matching(snapshot(joiner, seeder(), dropped=[GLM])) == {}
    gone = offer("joiner", 24)
    assert snapshot(gone, seeder(), dropped=[GLM]).unserved == {}
    assert matching(snapshot(joiner, seeder(GLM), lost=[GLM], dropped=[GLM])) == {}


def test_wish_by_short_name_is_served_by_the_file_it_means() -> None:
    host = offer("host", 24, serves={GLM: "ready"}, disk={GLM: 18})
    assert snapshot(seeder("glm-4.7"), host).unserved == {}
    assert snapshot(seeder("glm-4.8"), host).unserved == {"glm-4.8": ()}


def test_lost_model_is_taken_over_from_a_disk_but_never_downloaded() -> None:
    standby = offer("standby", 24, disk={GLM: 18})
    assert matching(snapshot(standby, lost=[GLM]))[standby.node_id].model == GLM
    assert matching(snapshot(offer("bare", 24), lost=[GLM], catalogue={GLM: 16})) == {}


def test_exactly_one_of_many_standbys_takes_a_lost_model_and_the_next_ones_are_in_order() -> None:
    standbys = [offer(f"s{i}", 24, disk={GLM: 18}) for i in range(7)]
    seen = snapshot(*standbys, lost=[GLM])
    (winner,) = matching(seen)
    order = takers(seen, GLM)
    assert order[0] == winner
    assert len(order) == len(set(order)) == 7
    bare = offer("bare", 24)
    assert takes(seen, GLM, standbys[0]) is not None
    assert takes(snapshot(bare, *standbys, lost=[GLM]), GLM, bare) is None


def test_who_has_it_on_disk_comes_before_who_would_fetch_it() -> None:
    has, bare = offer("has", 24, disk={GLM: 18}), offer("bare", 24)
    seen = snapshot(bare, has, seeder(GLM), catalogue={GLM: 16})
    assert takers(seen, GLM) == (has.node_id, bare.node_id)


def test_newcomer_serves_another_copy_of_the_least_served_model_on_its_disk() -> None:
    hosts = [offer(f"a{i}", serves={"A": "ready"}, disk={"A": 3}) for i in range(2)]
    hosts.append(offer("b", serves={"B": "ready"}, disk={"B": 3}))
    joiner = offer("joiner", disk={"A": 3, "B": 3, "C": 3})
    found = least_served(snapshot(joiner, *hosts))
    assert found is not None
    assert found.model == "B"
    assert found.text == "Assigned to serve B (least served: 1 copy, already on disk)"
    assert least_served(snapshot(offer("bare"), *hosts)) is None
    assert least_served(snapshot(offer("joiner", disk={"C": 3}), *hosts)) is None


def test_crowd_of_newcomers_spreads_over_the_served_models() -> None:
    hosts = [offer(m, serves={m: "ready"}, disk={m: 3}) for m in "ABCD"]
    crowd = [offer(f"j{i}", disk=dict.fromkeys("ABCD", 3.0)) for i in range(40)]
    chosen = [least_served(snapshot(*crowd, *hosts, me=f"j{i}")) for i in range(40)]
    counts = [sum(c is not None and c.model == m for c in chosen) for m in "ABCD"]
    assert counts == [10, 10, 10, 10]


def test_node_without_engine_stands_by() -> None:
    assert matching(snapshot(offer("joiner", 24, disk={GLM: 18}, engine=""), seeder())) == {}


MODELS = ["A", "B", "C", "D"]


@st.composite
def meshes(draw: st.DrawFn) -> MeshSnapshot:
    offers = []
    for i in range(draw(st.integers(1, 6))):
        disk = dict.fromkeys(draw(st.sets(st.sampled_from(MODELS))), 8.0)
        serves = dict.fromkeys(list(disk)[:1], "ready") if draw(st.booleans()) else {}
        wishes = draw(st.sets(st.sampled_from(MODELS), max_size=2))
        offers.append(offer(f"n{i}", draw(st.sampled_from([4.0, 16.0])), disk=disk, serves=serves,
                            wishes=sorted(wishes)))  # fmt: skip
    return snapshot(*offers, dropped=draw(st.sets(st.sampled_from(MODELS), max_size=1)))


@settings(max_examples=200, deadline=None)
@given(meshes())
def test_matching_is_the_same_for_all_serves_each_wish_once_and_wastes_nobody(
    seen: MeshSnapshot,
) -> None:
    found = matching(seen)
    models = [a.model for a in found.values()]
    assert len(models) == len(set(models))
    assert not set(models) & (seen.dropped | set(seen.hosts))
    for taker, assignment in found.items():
        assert seen.offers[taker].free
        assert seen.offers[taker].can_hold(assignment.model)
    left = {o.node_id for o in seen.free} - set(found)
    for wish in set(seen.unserved) - set(models):
        assert not any(seen.offers[n].can_hold(wish) for n in left)
    for order in itertools.islice(itertools.permutations(seen.offers.values()), 1, 6):
        other = MeshSnapshot(order[0].node_id, {o.node_id: o for o in order}, dropped=seen.dropped)
        assert matching(other) == found
