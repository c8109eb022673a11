"""Who works in a split, with how many layers: near enough, just enough, at least one layer each."""

from hypothesis import given
from hypothesis import strategies as st

from nodes.mesh.ids import ModelName
from nodes.mesh.limits import SPLIT_WORKERS_MAX
from nodes.mesh.split import SplitPlacement, layer_counts, memory_shares, place_split
from tests.nodes.mesh.offers_lab import offer, snapshot, works

BIG = ModelName("big")


def placed(
    *others: object, host_gb: float = 16, need_gb: float = 26, **near: float
) -> SplitPlacement:
    rtts = near or {o.name: 1.0 for o in others}  # type: ignore[attr-defined]
    host = offer("host", host_gb, serves={BIG: "waiting"}, disk={BIG: need_gb}, rtts=rtts)
    return place_split(snapshot(host, *others), BIG, host)  # type: ignore[arg-type]


def names(found: SplitPlacement, *others: object) -> list[str]:
    by_id = {o.node_id: o.name for o in others}  # type: ignore[attr-defined]
    return [by_id[seat.node_id] for seat in found.workers]


def why(found: SplitPlacement, name: str) -> str:
    return next(v.why for v in found.verdicts if v.name == name)


def test_nearest_that_cover_it_are_taken_and_no_more() -> None:
    near, mid, far = offer("near", 6), offer("mid", 6), offer("far", 64)
    found = placed(near, mid, far, near=1, mid=5, far=20)
    assert names(found, near, mid, far) == ["near", "mid"]
    assert why(found, "far").startswith("not needed")


def test_near_one_that_became_superfluous_is_left_out() -> None:
    tiny, large = offer("tiny", 1), offer("large", 32)
    assert names(placed(tiny, large, tiny=1, large=5), tiny, large) == ["large"]


def test_worker_beyond_80_ms_or_of_unknown_distance_is_rejected_with_its_reason() -> None:
    far, unknown = offer("far", 32), offer("unknown", 32)
    found = placed(far, unknown, far=80.5)
    assert found.seats == ()
    assert "at most 80 ms" in why(found, "far")
    assert "not known" in why(found, "unknown")
    assert found.have_bytes == 16_000_000_000
    edge = offer("edge", 32)
    assert len(placed(edge, edge=80.0).workers) == 1


def test_round_trip_that_only_the_worker_has_seen_counts() -> None:
    worker = offer("worker", 32, rtts={"host": 3.0})
    found = placed(worker, somebody=1.0)
    assert [seat.rtt_ms for seat in found.workers] == [3.0]


def test_another_rpc_version_is_a_reason_not_a_crash() -> None:
    other = offer("other", 32, rpc_version="7")
    found = placed(other)
    assert found.seats == ()
    assert why(found, "other") == "its engine speaks RPC version 7, the host's 8"


def test_one_split_for_one_rpc_server_and_no_node_that_serves_something_else() -> None:
    works_elsewhere = offer("w", 32, works=works("else", "host", 1))
    serves = offer("s", 32, serves={"else": "ready"})
    found = placed(works_elsewhere, serves)
    assert found.seats == ()
    assert why(found, "w") == "it already works in a split of else"
    assert why(found, "s") == "it serves else"


def test_worker_of_a_host_that_is_gone_is_free_again() -> None:
    left = offer("left", 32, works=works("else", "dead", 1))
    assert names(placed(left), left) == ["left"]


def test_late_node_without_engine_and_too_small_one_are_rejected() -> None:
    late = offer("late", 32, rank_last=True)
    bare = offer("bare", 32, engine="")
    small = offer("small", 0.5)
    found = placed(late, bare, small)
    assert [why(found, n) for n in ("late", "bare")] == ["it is late to answer", "it has no engine"]
    assert why(found, "small") == "one layer needs 0.7 GB, it offers 0.5 GB"


def test_forced_split_of_what_fits_takes_one_worker_the_nearest() -> None:
    a, b = offer("a", 32), offer("b", 32)
    assert names(placed(a, b, need_gb=2, a=4, b=2), a, b) == ["b"]


def test_where_so_many_near_ones_do_not_cover_it_those_that_lend_most_are_taken() -> None:
    small = [offer(f"s{i}", 4.45) for i in range(SPLIT_WORKERS_MAX)]
    large = offer("large", 40)
    rtts = {o.name: 1.0 + i / 10 for i, o in enumerate(small)}
    found = placed(*small, large, host_gb=16, need_gb=160, **rtts, large=50)
    chosen = names(found, *small, large)
    assert (chosen[-1], len(chosen)) == ("large", 25)
    host = offer("host", 16, disk={BIG: 40}, layers=2, rtts={"near": 1, "large": 50})
    near = offer("near", 21)
    seats = place_split(snapshot(host, near, large), BIG, host).seats
    assert [seat.node_id for seat in seats] == [host.node_id, large.node_id]


def test_shares_of_scenario_14_and_every_worker_gets_a_layer() -> None:
    worker = offer("worker", 1)
    found = placed(worker, host_gb=48, need_gb=3)
    assert found.tensor_split == (0.98, 0.02)
    assert [seat.layers for seat in found.seats] == [35, 1]


def test_fewer_layers_than_nodes_or_unknown_layers_make_no_split_beyond_them() -> None:
    host = offer(
        "host", 16, serves={BIG: "waiting"}, disk={BIG: 26}, layers=2, rtts={"a": 1, "b": 2}
    )
    a, b = offer("a", 32), offer("b", 32)
    assert len(place_split(snapshot(host, a, b), BIG, host).seats) == 2
    silent = offer("host", 16, disk={BIG: 26}, layers=0, rtts={"a": 1})
    assert place_split(snapshot(silent, a), BIG, silent).seats == ()


@given(st.integers(1, 200), st.lists(st.integers(1, 10**12), min_size=1, max_size=32))
def test_layer_counts_add_up_and_leave_nobody_out(layers: int, memories: list[int]) -> None:
    memories = memories[:layers]
    counts = layer_counts(layers, memories)
    assert sum(counts) == layers
    assert min(counts) >= 1
    for (a, x), (b, y) in zip(
        zip(memories, counts, strict=True),
        list(zip(memories, counts, strict=True))[1:],
        strict=False,
    ):
        assert x >= y - 1 if a >= b else y >= x - 1


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=32))
def test_shares_are_hundredths_that_add_up_to_one(memories: list[int]) -> None:
    shares = memory_shares(memories)
    assert round(sum(shares) * 100) == 100
    assert all(abs(round(s * 100) - s * 100) < 1e-9 for s in shares)


def test_shares_of_scenario_3() -> None:
    assert memory_shares([48, 24]) == (0.67, 0.33)
