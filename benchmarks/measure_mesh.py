"""Whole meshes on real engines: what a killed host costs, how soon routes follow, where requests go."""

from collections.abc import Callable, Sequence

from benchmarks.mesh import kill, routes, same, spread, starts
from benchmarks.plan import Plan
from benchmarks.process import TargetFailed
from benchmarks.results import Results
from benchmarks.target import OURS, Ground

Measure = Callable[[Plan, Results, Ground], None]
PARTS: tuple[tuple[Sequence[str], Measure], ...] = (
    (kill.KEYS, kill.measure_kill),
    (routes.KEYS, routes.measure_routes),
    (spread.AFFINITY_KEYS, spread.measure_affinity),
    (tuple(spread.EVEN_KEYS.values()), spread.measure_even),
    ((same.KEY,), same.measure_same),
)


def measure_mesh(plan: Plan, results: Results, ground: Ground) -> None:
    """All parts but the long one, each in meshes of its own."""
    for keys, measure in PARTS:
        _run(keys, measure, plan, results, ground)


def measure_stability(plan: Plan, results: Results, ground: Ground) -> None:
    """Scenario 13 for minutes."""
    _run(starts.KEYS, starts.measure_starts, plan, results, ground)


def _run(
    keys: Sequence[str], measure: Measure, plan: Plan, results: Results, ground: Ground
) -> None:
    """Measure; what cannot be measured is explained below the table."""
    try:
        if ground.real_engine is None:
            raise TargetFailed(ground.absent_real)
        measure(plan, results, ground)
    except (TargetFailed, AssertionError) as error:
        for key in keys:
            results.excuse(key, OURS, str(error).strip().splitlines()[0][:300])
