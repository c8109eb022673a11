"""What a measured row is, what is measured in one cluster of either profile, and how rows are printed."""

import statistics
from collections.abc import Callable, Iterable
from functools import partial

from tests.sim.cluster import Cluster
from tests.sim.parts import SimNode

Row = tuple[str, str, str, bool]
"""(figure, wanted, measured, kept)."""
Measure = Callable[[bool], Row]
"""Measures one row; True: with the full counts."""
NEVER = 999.0
"""Stands for what did not happen."""


def percentile(values: list[float], percent: int) -> float:
    """Return `NEVER` where nothing was observed."""
    if len(values) < 2:
        return values[0] if values else NEVER
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def slowest(times: Iterable[float | None]) -> float:
    """Return the longest time; None counts as `NEVER`."""
    return max(NEVER if time is None else time for time in times)


# --- one cluster ---------------------------------------------------------------


def kill_times(
    cluster: Cluster, victim: SimNode, silent: bool, watch_s: float, step_s: float
) -> tuple[list[float], list[float]]:
    """Return after how long each survivor held the victim dead, and ranked it last."""
    network = cluster.network
    at = network.now
    network.kill(victim, silent)
    late: dict[str, float] = {}
    while network.now < at + watch_s:
        cluster.run(step_s)
        for node in cluster.nodes:
            view = node.views.get(victim.node_id)
            if view is None or view.rank_last:
                late.setdefault(node.name, network.now - at)
    dead = [t - at for t, _, who in cluster.checkers.deaths if who == victim.node_id]
    return dead, list(late.values())


def leave_time(cluster: Cluster, limit_s: float, step_s: float) -> float | None:
    """Return after how long nobody lists a node that leaves."""
    leaver = cluster.nodes[1]
    cluster.leave(leaver)
    return cluster.network.run_until(partial(_nobody_lists, cluster, leaver), limit_s, step_s)


def _nobody_lists(cluster: Cluster, gone: SimNode) -> bool:
    return all(gone.node_id not in n.views for n in cluster.nodes if n is not gone)


def healing_time(cluster: Cluster, apart_s: float, limit_s: float, step_s: float) -> float | None:
    """Return after how long all agree again that were two halves for `apart_s`."""
    half = len(cluster.nodes) // 2
    cluster.partition(cluster.nodes[:half], cluster.nodes[half:])
    cluster.run(apart_s)
    cluster.heal()
    return cluster.network.run_until(cluster.converged, limit_s, step_s)


def payload_rate(cluster: Cluster, duration_s: float) -> float:
    """Return the bytes of payload a second that each node sends while nothing happens."""
    before = cluster.network.bytes
    cluster.run(duration_s)
    return (cluster.network.bytes - before) / duration_s / len(cluster.nodes)


# --- rows ----------------------------------------------------------------------


def print_rows(rows: Iterable[Measure], full: bool, only: str = "") -> int:
    """Print the rows (those whose measure is named `only`), one as it is done; return 1 if one was missed."""
    print("| figure | wanted | measured | |\n|---|---|---|---|", flush=True)
    failed = 0
    for row in rows:
        if only and only not in repr(row):
            continue
        figure, wanted, measured, kept = row(full)
        failed += not kept
        print(f"| {figure} | {wanted} | {measured} | {'kept' if kept else 'MISSED'} |", flush=True)
    return 1 if failed else 0
